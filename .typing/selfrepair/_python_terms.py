"""Errors of the measurement in the terms of a Python call: they name the command line's options."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from selfrepair.warehouse.errors import SelfRepairError

_COMMAND = re.compile(r"(selfrepair [a-z]+(?: --[a-z-]+(?: [^\s,;)]+)?)?)")
_ROW = re.compile(r"(?:dataset '[^']*', |^prompts, )?\b(?:row|document) (\d+)")
"""Lines of files are counted from 1, a list from 0."""

_TERMS = (
    (r"a shorter --seq-len", "shorter prompts"),
    (r"--dtype (\w+)", r"model.to(torch.\1)"),
    (r"--device (\w+)", r'model.to("\1")'),
    (r"--ablation ((?:resample|mean|zero)(?:,\w+)*)", r'ablations="\1"'),
    (r"Use --neurons none", 'Leave "neurons_last" and "neurons_all" out of mechanisms'),
    (r"a single --ablation", "a single ablation"),
    (r"([Ll])eave --self-repression out", r'\1eave "self_repression" out of mechanisms'),
    (r"--self-repression", 'the mechanism "self_repression"'),
    (r"--layers ([\d,-]*\d)", r'layers="\1"'),
    (r"--db (\S*[^\s.,;)])", r'into="\1"'),
    (r"--db", "into="),
    (r"--ablation", "ablations"),
    (r"run the same command(?: again)?|repeat the command", "repeat the call"),
    (r"dataset '[^']*' is empty\. .*", "prompts is empty. Pass one or more."),
    (r"Save its own next to it .* hold `tokens`\.", "Pass its own as tokenizer=, or none and token ids."),
)


@contextmanager
def python_terms(step: str = "") -> Iterator[None]:
    """Put a SelfRepairError from within into Python's terms; `step` is added where it says to do the same again."""
    try:
        yield
    except SelfRepairError as error:
        text = in_python(str(error))
        error.args = (f"{text} {step}" if step and "repeat the call" in text else text,)
        raise


def in_python(text: str) -> str:
    """The text with arguments of `measure` in place of options; commands in it stay commands."""
    parts = _COMMAND.split(text)
    for index in range(0, len(parts), 2):
        for pattern, replacement in _TERMS:
            parts[index] = re.sub(pattern, replacement, parts[index])
        parts[index] = _ROW.sub(lambda found: f"prompts[{int(found[1]) - 1}]", parts[index])
        parts[index] = re.sub(r"(?<!\S)--([a-z][a-z-]*)", lambda found: found[1].replace("-", "_"), parts[index])
    return "".join(parts)

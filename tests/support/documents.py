"""Documents that the program writes itself: docs/views.md, docs/families.md and the outputs in docs/tour.md.

Write them again with: python tests/support/documents.py
"""

import contextlib
import doctest
import io
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import transformers

from selfrepair.app.cli.main import main
from selfrepair.ingest.models.families import NOT_BUILT, Family, families
from selfrepair.queries.catalog.describe import (
    BLOCKS,
    TABLES,
    grouped,
    markdown_columns,
    markdown_summaries,
    markdown_table,
)
from selfrepair.queries.catalog.questions import Question, questions
from selfrepair.queries.catalog.relations import relations

ROOT = Path(__file__).parents[2]
VIEWS = ROOT / "docs" / "views.md"
FAMILIES = ROOT / "docs" / "families.md"
TOUR = ROOT / "docs" / "tour.md"

COLUMNS = 100
"""Width of the terminal in the tour."""

_FENCE = re.compile(r"^```(?P<kind>sh|console|pycon)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


def views_page() -> str:
    """docs/views.md: every question, view and table, and what each column means."""
    groups = grouped(relations().values())
    parts = [
        "# Views, questions and tables",
        "Written by `python tests/support/documents.py` from the files in `queries/views`, `queries/questions` and the "
        "tables' comments. The same in a terminal: `selfrepair views`, `selfrepair questions`, `selfrepair describe NAME`.",
        "## All views",
        "`selfrepair query NAME` prints a view's headline columns, `Warehouse().view(NAME)` returns all as a polars frame.",
    ]
    for heading, group in groups.items():
        if heading not in (TABLES, BLOCKS):
            parts += [f"**{heading}**", markdown_summaries(group)]
    parts += [
        "## Questions",
        '`selfrepair query NAME --param head=L9H6`, or `Warehouse().question(NAME, head="L9H6")` in Python.',
        markdown_table(("question", "answers", "parameters"), [_question(asked) for asked in questions().values()]),
    ]
    for heading, group in groups.items():
        parts.append(f"## {heading}")
        if heading == BLOCKS:
            parts.append(markdown_summaries(group))
        else:
            for relation in group:
                parts += [f"### {relation.name}", markdown_columns(relation)]
    return "\n\n".join(parts) + "\n"


def families_page() -> str:
    """docs/families.md: what of every architecture of transformers can be measured."""
    table = families()
    types = [family for family in table if " (" not in family.name]  # without the variants
    with_softmax = [family for family in types if "has softmax attention" not in family.reason]
    norms_first = [family for family in with_softmax if "normalises the residual stream itself" not in family.reason]
    measured, first = (sum(not family.reason for family in some) for some in (with_softmax, norms_first))
    return (
        "\n\n".join(
            (
                "# Families of models",
                f"Of the {len(with_softmax)} causal language models with softmax attention that transformers "
                f"{transformers.__version__} builds from a configuration, {measured} are measured; of the {len(norms_first)} "
                f"that do not normalise the residual stream itself after a layer's parts, {first} "
                f"({first / len(norms_first):.0%}).",
                "A small random model of each is built. Every head of it is ablated, and every row equals a reference to 1e-8 "
                "logits in float64: whole forwards of the plain modules with hooks, which share nothing with the engine "
                "(tests/ingest/models/test_sweep.py). Each is also broken in up to nine ways after its parts were found, and "
                "the preflight refuses it. Real weights pass the same preflight before every run. Written by "
                "`python tests/support/sweep.py` and `python tests/support/documents.py`; `selfrepair models --supported` "
                "prints it.",
                "Families have the names that config.json gives as `model_type`. Experts are routed ones, whose re-routing is "
                "measured where what each adds can be told apart.",
                "## Measured",
                markdown_table(
                    ("family", "norm", "blocks", "heads", "experts", "examples"),
                    [
                        (_family(one), one.norm, one.blocks, one.heads, one.experts, ", ".join(one.examples[:2]))
                        for one in table
                        if not one.reason
                    ],
                ),
                "## Refused",
                markdown_table(
                    ("family", "reason", "examples"),
                    [(_family(one), one.reason, ", ".join(one.examples[:2])) for one in table if one.reason],
                ),
                "Not built, and so not tried: "
                + "; ".join(f"`{name}` ({reason})" for name, reason in NOT_BUILT.items())
                + ".",
            )
        )
        + "\n"
    )


def _family(family: Family) -> str:
    name, _, variant = family.name.partition(" ")
    return f"`{name}` {variant}".rstrip()


def tour(text: str, folder: Path) -> str:
    """The tour with the outputs that its commands give now, one after the other, run in `folder`."""
    shutil.copytree(ROOT / "docs", folder / "docs")
    names: dict[str, object] = {}
    run: dict[str, Callable[[str], str]] = {
        "sh": _after_setting_up,
        "console": _with_output,
        "pycon": lambda block: _with_python_output(block, names),
    }
    environment = {key: value for key, value in os.environ.items() if key != "SELFREPAIR_DB"} | {
        "COLUMNS": str(COLUMNS)
    }
    with contextlib.chdir(folder), _environment(environment):
        return _FENCE.sub(lambda fence: f"```{fence['kind']}\n{run[fence['kind']](fence['text'])}```", text)


def _question(asked: Question) -> tuple[str, str, str]:
    takes = [f"{name}{'' if one.required else '?'}" for name, one in asked.parameters.items()]
    return f"`{asked.name}`", asked.view.summary, ", ".join(takes)


def _after_setting_up(block: str) -> str:
    """A block of commands whose output the tour leaves out."""
    for line in block.replace("\\\n", " ").splitlines():
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").partition("=")
            os.environ[name] = value
        else:
            assert "Error" not in _output(line)
    return block


def _with_output(block: str) -> str:
    """Commands after `$ `, further lines of theirs after `> `, and below each what it prints."""
    parts = []
    for command in re.findall(r"^\$ .*(?:\n> .*)*", block, re.MULTILINE):
        typed = re.sub(r"^[$>] ", "", command, flags=re.MULTILINE)
        parts.append(f"{command}\n{_output(typed)}")
    return "\n".join(parts)


def _output(typed: str) -> str:
    program, *args = shlex.split(typed)
    assert program == "selfrepair", typed
    screen = _Screen(io.BytesIO(), encoding="utf-8")
    with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen), contextlib.suppress(SystemExit):
        main(args, prog_name="selfrepair")
    screen.flush()
    screen.seek(0)
    return "".join(f"{line.rstrip()}\n" for line in screen.read().splitlines())


class _Screen(io.TextIOWrapper):
    """What a program takes for a terminal."""

    def isatty(self) -> bool:
        return True


def _with_python_output(block: str, names: dict[str, object]) -> str:
    parts = []
    for example in doctest.DocTestParser().get_examples(block):
        screen = io.StringIO()
        with contextlib.redirect_stdout(screen):
            exec(compile(example.source, "<tour>", "single"), names)
        first, *rest = example.source.splitlines()
        parts += [f">>> {first}\n", *(f"... {line}\n".replace("... \n", "...\n") for line in rest)]
        parts += [f"{line.rstrip()}\n" for line in screen.getvalue().splitlines()]
    return "".join(parts)


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


if __name__ == "__main__":
    VIEWS.write_text(views_page(), encoding="utf-8")
    FAMILIES.write_text(families_page(), encoding="utf-8")
    with tempfile.TemporaryDirectory() as scratch:
        TOUR.write_text(tour(TOUR.read_text(encoding="utf-8"), Path(scratch)), encoding="utf-8")

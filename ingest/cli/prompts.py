"""`selfrepair prompts`: write prompts with an answer and a foil, for a task."""

import json
import shlex
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import click


@click.group(short_help="Write a task to measure: prompts with an answer and a foil.")
def prompts() -> None:
    """Write a task to measure: rows of text, the correct answer, and a foil to compare it with.

    `selfrepair ingest --dataset FILE` then measures every effect on the difference of their two logits, at the end of each
    prompt. Answers and foils are single tokens of the model that is named; sentences and words are this package's own.
    """


def _task(name: str, *more: Callable[[Any], Any]) -> Callable[[Callable[..., None]], click.Command]:
    """A command that writes the rows of the task `name`, whose module and function have its name; `more` are its options."""

    def command(function: Callable[..., None]) -> click.Command:
        def write(
            n: int,
            output: Path | None,
            model: str,
            revision: str | None,
            trust_remote_code: bool,
            seed: int,
            **own: Any,
        ) -> None:
            _write(name, output or Path(f"{name}.jsonl"), model, revision, trust_remote_code, n=n, seed=seed, **own)

        write.__doc__ = function.__doc__
        options = (
            click.option("--n", type=click.IntRange(2), default=200, show_default=True, help="Number of prompts."),
            click.option(
                "-o",
                "--output",
                type=click.Path(dir_okay=False, path_type=Path),
                help=f"File.  [default: {name}.jsonl]",
            ),
            click.option(
                "--model",
                default="gpt2",
                show_default=True,
                help="Model whose tokenizer must have each answer as one token.",
            ),
            click.option("--revision", help="Revision of that model on the hub."),
            click.option("--trust-remote-code", is_flag=True, help="Let the tokenizer run code that comes with it."),
            click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of what is drawn."),
            *more,
        )
        for option in reversed(options):
            write = option(write)
        return prompts.command(name)(write)

    return command


@_task(
    "ioi",
    click.option(
        "--names",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Names to use in the place of this package's, one a line.",
    ),
)
def ioi() -> None:
    """Write prompts for indirect object identification (IOI): who receives what someone else gives.

    "When Mary and John met near the park, John handed a book to" has the answer " Mary" and the foil " John". Names,
    places and things are single tokens of the model; sentences and the order of names are balanced.
    """


@_task("induction")
def induction() -> None:
    """Write random tokens, and again: what followed a token the first time is the answer the second time.

    For any model with a tokenizer: no words are needed. The foil is another of the tokens.
    """


@_task("greater-than")
def greater_than() -> None:
    """Write spans of years, to be ended by a year that is later than the first.

    "The war began in the year 1732 and ended in the year 17" has an answer such as "45" and a foil such as "11". Where the
    year is cut follows the tokenizer.
    """


@_task("arithmetic")
def arithmetic() -> None:
    """Write sums of two numbers, each after three others that show how it is written.

    "... 12 + 25 =" has the answer " 37"; the foil is the result of another sum. Tokenizers that take digits one by one get
    sums below 10.
    """


@_task("mcqa")
def mcqa() -> None:
    """Write multiple-choice questions (MCQA): which of four words is an animal, or a color, or a country.

    The answer is a letter from A to D, each equally often, the foil another letter.
    """


@_task("agreement")
def agreement() -> None:
    """Write beginnings of sentences whose verb must agree with a subject, not with a nearer noun.

    "The books near the door" has the answer " are" and the foil " is". Numbers of both nouns are balanced.
    """


def _write(
    name: str,
    output: Path,
    model: str,
    revision: str | None,
    trust_remote_code: bool,
    *,
    n: int,
    names: Path | None = None,
    **more: Any,
) -> None:
    from selfrepair.ingest.models.loading import tokenizer_of
    from selfrepair.ingest.text.tasks.vocabulary import Vocabulary
    from selfrepair.warehouse.errors import SelfRepairError

    if output.suffix != ".jsonl":
        raise SelfRepairError(
            f"{output} does not end in .jsonl, and would not be read as rows of JSON. Name another file with -o."
        )
    if output.exists():
        raise SelfRepairError(f"{output} exists and is not overwritten. Name another file with -o, or remove it.")
    if names is not None:
        more["names"] = _lines(names)
    module = name.replace("-", "_")
    rows_of = getattr(import_module(f"selfrepair.ingest.text.tasks.{module}"), f"{module}_rows")
    tokenizer = tokenizer_of(model, revision, trust_remote_code=trust_remote_code)
    rows = list(rows_of(Vocabulary(tokenizer, model), n, **more))
    try:
        output.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    except OSError as error:
        raise SelfRepairError(f"{output} cannot be written: {error.strerror}. Name another file with -o.") from error
    measure = ["--model", model, *(["--revision", revision] if revision else []), "--dataset", str(output)]
    click.echo(
        f"{n} prompts in {output}. Measure them: selfrepair ingest {shlex.join([*measure, '--prompts', str(n)])}"
    )


def _lines(file: Path) -> list[str]:
    """The names in the file, one a line, each once."""
    from selfrepair.warehouse.errors import SelfRepairError

    try:
        names = list(dict.fromkeys(line.strip() for line in file.read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise SelfRepairError(f"{file} cannot be read as lines of UTF-8 text ({error}). Save it as such.") from error
    found = [name for name in names if name]
    if not found:
        raise SelfRepairError(f"{file} has no names in it. Write one a line, or leave out --names.")
    return found

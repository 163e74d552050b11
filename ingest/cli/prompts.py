"""`selfrepair prompts`: write prompts with an answer and a foil, for a task."""

import json
import shlex
from pathlib import Path

import click


@click.group(short_help="Write a task to measure: prompts with an answer and a foil.")
def prompts() -> None:
    """Write a task to measure: rows of text, the correct answer, and a foil to compare it with.

    `selfrepair ingest --dataset FILE` then measures every effect on the difference of their two logits, at the end of each
    prompt.
    """


@prompts.command()
@click.option("--n", type=click.IntRange(2), default=200, show_default=True, help="Number of prompts.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default="ioi.jsonl",
    show_default=True,
    help="File.",
)
@click.option(
    "--model", default="gpt2", show_default=True, help="Model whose tokenizer must have each name as one token."
)
@click.option("--revision", help="Revision of that model on the hub.")
@click.option("--trust-remote-code", is_flag=True, help="Let the tokenizer run code that comes with it.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the names, places and things."
)
def ioi(n: int, output: Path, model: str, revision: str | None, trust_remote_code: bool, seed: int) -> None:
    """Write prompts for indirect object identification (IOI): who receives what someone else gives.

    "When Mary and John met near the park, John handed a book to" has the answer " Mary" and the foil " John". Names,
    places and things are single tokens of the model; sentences and the order of names are balanced.
    """
    from selfrepair.ingest.models.loading import tokenizer_of
    from selfrepair.ingest.text.tasks.ioi import ioi_rows
    from selfrepair.warehouse.errors import SelfRepairError

    if output.suffix != ".jsonl":
        raise SelfRepairError(
            f"{output} does not end in .jsonl, and would not be read as rows of JSON. Name another file with -o."
        )
    if output.exists():
        raise SelfRepairError(f"{output} exists and is not overwritten. Name another file with -o, or remove it.")
    tokenizer = tokenizer_of(model, revision, trust_remote_code=trust_remote_code)
    rows = list(ioi_rows(tokenizer, model, n=n, seed=seed))
    try:
        output.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    except OSError as error:
        raise SelfRepairError(f"{output} cannot be written: {error.strerror}. Name another file with -o.") from error
    measure = ["--model", model, *(["--revision", revision] if revision else []), "--dataset", str(output)]
    click.echo(
        f"{n} prompts in {output}. Measure them: selfrepair ingest {shlex.join([*measure, '--prompts', str(n)])}"
    )

"""`selfrepair prompts`: write tasks to measure, rows with an answer and a foil."""

import json
from pathlib import Path

import click


@click.group(short_help="Write a task to measure: prompts with an answer and a foil.")
def prompts() -> None:
    """Write a task to measure: rows of text, the answer that should follow, and a foil to compare it with.

    `selfrepair ingest --dataset FILE` then measures every effect on the difference of their two logits, at the end of each
    prompt.
    """


@prompts.command()
@click.option("--n", type=click.IntRange(2), default=200, show_default=True, help="How many prompts.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default="ioi.jsonl",
    show_default=True,
    help="File.",
)
@click.option("--model", default="gpt2", show_default=True, help="Whose tokenizer must have each name as one token.")
@click.option("--revision", help="Revision of that model on the hub.")
@click.option("--seed", type=int, default=0, show_default=True, help="Decides names, places and things.")
def ioi(n: int, output: Path, model: str, revision: str | None, seed: int) -> None:
    """Write indirect-object sentences, which ask to whom something was given.

    "When Mary and John met near the park, John handed a book to" has the answer " Mary" and the foil " John". Names,
    places and things are single tokens of the model; sentences and the order of names are balanced.
    """
    from selfrepair.ingest.ioi import ioi_rows
    from selfrepair.ingest.loading import tokenizer_of
    from selfrepair.warehouse.errors import SelfRepairError

    rows = list(ioi_rows(tokenizer_of(model, revision), model, n=n, seed=seed))
    try:
        output.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    except OSError as error:
        raise SelfRepairError(f"{output} cannot be written: {error.strerror}. Name another file with -o.") from error
    click.echo(
        f"{len(rows)} prompts in {output}. Measure them: selfrepair ingest --model {model} --dataset {output} --prompts {n}"
    )

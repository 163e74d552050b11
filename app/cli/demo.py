"""`selfrepair demo`: the bundled model from measuring to the numbers, with nothing to download."""

from pathlib import Path

import click

from selfrepair.warehouse.cli.options import db_option
from selfrepair.warehouse.database.lake.address import options_of

ABLATIONS = "resample,mean,zero"
SEQ_LEN = 128
EFFECTS_ONLY = ["--neurons", "none", "--no-edges", "--no-logit-lens"]
"""Options of an ingest that measures the effects without any mechanism."""


@click.command()
@db_option
@click.option(
    "--prompts", type=click.IntRange(min=2), default=200, show_default=True, help=f"Prompts of {SEQ_LEN} tokens each."
)
@click.option(
    "--mechanisms",
    is_flag=True,
    help="Also measure every mechanism: edges, neurons, logit lens, log-probabilities, self-repression (takes longer).",
)
@click.pass_context
def demo(ctx: click.Context, db: Path, prompts: int, mechanisms: bool) -> int:
    """Measure the bundled model and print self-repair by layer.

    Ablates every head of a small model that comes with selfrepair, at every token of text from Python's standard library,
    with three types of ablation. Needs no network. Run again, it measures only what is missing and prints the same.
    """
    options = {
        "--model": "demo",
        "--dataset": "stdlib",
        "--prompts": str(prompts),
        "--seq-len": str(SEQ_LEN),
        "--ablation": ABLATIONS,
    }
    args = [word for option in options.items() for word in option]
    run_id = run_command(
        ctx, "ingest", [*args, *options_of(db, secret=True), *(["--mechanisms"] if mechanisms else EFFECTS_ONLY)]
    )
    assert isinstance(run_id, int), "ingest returns the run_id of what it measured"
    return run_id


def run_command(ctx: click.Context, name: str, args: list[str]) -> object:
    """Run another command of the root group, without its report; returns what its function returns."""
    root = ctx.find_root()
    assert isinstance(root.command, click.Group)
    command = root.command.get_command(root, name)
    assert command is not None, f"there is no command '{name}'"
    with command.make_context(name, args, parent=root) as inner:
        return command.invoke(inner)

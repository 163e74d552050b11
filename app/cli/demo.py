"""`selfrepair demo`: the whole way on the bundled model, from measuring to the numbers, with nothing to download."""

from pathlib import Path

import click

from selfrepair.warehouse.cli.options import db_option

ABLATIONS = "resample,mean,zero"
SEQ_LEN = 128
EFFECTS_ALONE = ["--neurons", "none", "--no-edges", "--no-logit-lens"]


@click.command()
@db_option
@click.option(
    "--prompts", type=click.IntRange(min=2), default=200, show_default=True, help=f"Prompts of {SEQ_LEN} tokens each."
)
@click.option(
    "--mechanisms",
    is_flag=True,
    help="Measure every mechanism, too: edges, neurons, logit lens, log-probabilities, self-repression (takes longer).",
)
@click.pass_context
def demo(ctx: click.Context, db: Path, prompts: int, mechanisms: bool) -> None:
    """Measure the bundled model and print what came out.

    Every head of a small model that comes with selfrepair is ablated at every token of Python's own library, in three
    ways. Needs no network. Run again, it measures only what is missing and prints the same.
    """
    from selfrepair.app.cli.demo_report import demo_report

    options = {
        "--model": "demo",
        "--dataset": "stdlib",
        "--prompts": str(prompts),
        "--seq-len": str(SEQ_LEN),
        "--ablation": ABLATIONS,
        "--db": str(db),
    }
    words = [word for option in options.items() for word in option]
    run_id = run_command(ctx, "ingest", [*words, *(["--mechanisms"] if mechanisms else EFFECTS_ALONE)])
    assert isinstance(run_id, int), "ingest returns the run_id of what it measured"
    click.echo(demo_report(db, run_id))


def run_command(ctx: click.Context, name: str, args: list[str]) -> object:
    """Run another command of the root group as if it had been typed; returns what its function returns."""
    root = ctx.find_root()
    assert isinstance(root.command, click.Group)
    command = root.command.get_command(root, name)
    assert command is not None, f"there is no command '{name}'"
    with command.make_context(name, args, parent=root) as inner:
        return command.invoke(inner)

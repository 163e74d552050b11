"""`selfrepair reproduce`: measure a model of the paper as its authors did, and compare with their published numbers."""

import json
import math
import re
from pathlib import Path

import click

from selfrepair.app.cli.demo import EFFECTS_ONLY, SEQ_LEN, run_command
from selfrepair.app.data.published import HUB_IDS, SHAPES
from selfrepair.warehouse.cli.options import db_option
from selfrepair.warehouse.database.lake.address import options_of
from selfrepair.warehouse.errors import SelfRepairError

PROTOCOL = "rushing2024"
DATASET = "NeelNanda/pile-10k"

MIN_PROMPTS = 31

_TOKENS = re.compile(r"(\d+(?:\.\d+)?)([kM]?)")
_FACTORS = {"": 1, "k": 1_000, "M": 1_000_000}


class TokenCount(click.ParamType[int]):
    """A number of tokens, such as 100000, 100k or 1.5M."""

    name = "tokens"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number of tokens; a usage error for anything else."""
        match = _TOKENS.fullmatch(str(value))
        tokens = round(float(match[1]) * _FACTORS[match[2]]) if match else 0
        if tokens < 1:
            self.fail(f"'{value}' is not a number of tokens. Write it as 100000, 100k or 1.5M.", param, ctx)
        return tokens


@click.command()
@click.argument("published", metavar="MODEL", type=click.Choice(list(HUB_IDS)))
@click.option(
    "--tokens",
    type=TokenCount(),
    default="100k",
    show_default=True,
    help=f"Positions to measure, {SEQ_LEN - 1} per prompt; accepts the suffixes k and M.",
)
@click.option("--model", help="Hub id or local folder of that model  [default: its id on the hub]")
@click.option("--dataset", default=DATASET, show_default=True, help="Source of the prompts, as in ingest.")
@click.option("--dtype", default="float32", show_default=True, help="Precision of the layers, as in ingest.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@click.option("--dry-run", is_flag=True, help="Print the estimated cost and write nothing.")
@db_option
@click.pass_context
def reproduce(
    ctx: click.Context,
    published: str,
    tokens: int,
    model: str | None,
    dataset: str,
    dtype: str,
    device: str,
    dry_run: bool,
    db: Path,
) -> None:
    """Measure a model from the paper and compare the numbers.

    MODEL is the paper's name for a model. Ablates every head at every token (resample ablation only) and compares the
    results with the numbers that the paper's authors released, and with the agreement between two runs of their own. Run
    again, it measures only what is missing and prints the same.

    \b
    selfrepair reproduce gpt2-small --device cuda
    selfrepair reproduce pythia-160m --tokens 10k --dry-run
    """  # noqa: D301
    from selfrepair.app.cli.reproduce_report import reproduce_report

    model = model or HUB_IDS[published]
    _check_name(published, model)
    _check_shape(published, Path(model))
    options = {
        "--model": model,
        "--dataset": dataset,
        "--prompts": str(n_prompts(tokens)),
        "--protocol": PROTOCOL,
        "--dtype": dtype,
        "--device": device,
    }
    args = [word for option in options.items() for word in option]
    run_id = run_command(
        ctx, "ingest", [*args, *options_of(db, secret=True), *EFFECTS_ONLY, *(["--dry-run"] if dry_run else [])]
    )
    if dry_run:
        return
    assert isinstance(run_id, int), "ingest returns the run_id of what it measured"
    click.echo(reproduce_report(db, run_id, published))


def n_prompts(tokens: int) -> int:
    """Prompts that hold at least `tokens` measured positions; the protocol takes partners from the next batch of 30."""
    return max(MIN_PROMPTS, math.ceil(tokens / (SEQ_LEN - 1)))


def _check_name(published: str, model: str) -> None:
    """Raise SelfRepairError for a model that views would not recognise, by the last part of its name, as the paper's."""
    expected = HUB_IDS[published].rpartition("/")[2]
    found = (Path(model).resolve().name if Path(model).exists() else model).rpartition("/")[2]
    if found.lower() != expected:
        raise SelfRepairError(
            f"'{model}' would be stored as '{found}', but {published} is recognised by the name '{expected}'. Use a folder or "
            f"hub id that ends in {expected}, or leave out --model for {HUB_IDS[published]}."
        )


def _check_shape(published: str, folder: Path) -> None:
    """Raise SelfRepairError where a local folder holds a model of another shape; a config without one passes."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        return  # not a folder, or not a model: ingest reports it
    layers, heads = (
        next((config[name] for name in names if name in config), None)
        for names in (("n_layer", "num_hidden_layers"), ("n_head", "num_attention_heads"))
    )
    if None not in (layers, heads) and (layers, heads) != SHAPES[published]:
        raise SelfRepairError(
            f"{folder} holds a model of {layers} layers with {heads} heads each, but {published} has {SHAPES[published][0]} "
            f"with {SHAPES[published][1]}. Nothing was measured. Use the folder of {published}, or measure this model with "
            "selfrepair ingest."
        )

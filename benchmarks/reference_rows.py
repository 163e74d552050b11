"""Every stored row against a float64 reference: `python -m benchmarks.reference_rows MODEL`.

Measures the model in float32 into a warehouse of its own, all heads and all three ablations, and then each row again in
float64, by whole forwards of the model's own modules with hooks (`checks.reference`), which share nothing with the engine.
"""

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import duckdb
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.overrides import TorchFunctionMode

from selfrepair.ingest.checks.reference import CleanPrompt, Head, PlainForwards, eager_attention
from selfrepair.ingest.cli import session
from selfrepair.ingest.conventions import EFFECTS, PRECISIONS
from selfrepair.ingest.models.loading import load_model
from selfrepair.ingest.request.ingest_request import IngestRequest
from selfrepair.ingest.text.targets import next_token_targets

ALLOWED = 2e-4
"""Largest difference in logits: effects are stored in steps of 1e-4."""

HEADS_AT_ONCE = 32


@dataclass(frozen=True)
class Comparison:
    """The rows that were compared, and the largest difference of each column [logits] (`ln_scale_ratio` is a plain number)."""

    rows: int
    largest: Mapping[str, float]

    @property
    def agrees(self) -> bool:
        """Whether no column differs by more than `ALLOWED`."""
        return max(self.largest.values()) <= ALLOWED


class InFloat64(TorchFunctionMode):
    """While it is on, nothing is cast to float32: norms and softmax of many families do so whatever the model's type."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        """Call `function`, but for casts to float32."""
        if function is torch.Tensor.float or (function is torch.Tensor.to and arguments[1:] == (torch.float32,)):
            return arguments[0]
        return function(*arguments, **{name: it for name, it in (keywords or {}).items() if it is not torch.float32})


@click.command()
@click.argument("model")
@click.option("--prompts", default=8, show_default=True)
@click.option("--seq-len", default=24, show_default=True)
def main(model: str, prompts: int, seq_len: int) -> None:
    """Compare every row of MODEL, a folder in Hugging Face format, with the reference."""
    with tempfile.TemporaryDirectory() as folder:
        db, began = Path(folder) / "rows.duckdb", time.perf_counter()
        run_id = measure(model, db, prompts, seq_len)
        measured = time.perf_counter()
        found = compare(db, run_id, model, on_prompt=lambda so_far: click.echo(so_far, err=True))
    _print(found, model, measured - began, time.perf_counter() - measured)
    if not found.agrees:
        raise click.ClickException(f"some rows differ by more than {ALLOWED:g} logits.")


def measure(model: str, db: Path, n_prompts: int, seq_len: int) -> int:
    """Measure the model in float32, effects alone; the number of the run."""
    request = IngestRequest(
        model=model, n_prompts=n_prompts, seq_len=seq_len, neurons="none", edges=False, experts=False, logit_lens=False
    )
    run_id = session.ingest(request, db=db, parts=db.with_suffix(".parts"), dry_run=False, began_at=time.perf_counter())
    assert run_id is not None, "neither a dry run nor a shard"
    return run_id


def compare(db: Path, run_id: int, model: str, on_prompt: Callable[[str], None] = lambda so_far: None) -> Comparison:
    """Measure every row of a run of `model` again in float64; `on_prompt` is told how far it is after each prompt."""
    adapter = load_model(model, precision=PRECISIONS["float64"], device=torch.device("cpu")).adapter
    largest, n_rows = np.zeros(len(EFFECTS)), 0
    with duckdb.connect(str(db), read_only=True) as con, _float64_forwards():
        forwards = PlainForwards(adapter)
        with eager_attention(adapter):
            prompts, partners = _prompts(con, run_id)
            # Positions without a target count in means, too: a token after the last makes it one that has a target.
            untouched = [forwards.clean(next_token_targets(torch.cat([row, row[:1]])[None])) for row in prompts]
            for number, row in enumerate(prompts):
                clean = forwards.clean(next_token_targets(row[None]))
                for (ablation, heads), stored in _stored(con, run_id, number):
                    values = _new_values(ablation, heads, forwards, untouched, partners[number], len(row) - 1)
                    again = torch.cat(
                        [
                            forwards.measure(clean, values[first : first + HEADS_AT_ONCE])
                            for first in range(0, len(values), HEADS_AT_ONCE)
                        ]
                    )
                    off = np.abs(again.numpy() - stored)
                    largest = np.maximum(largest, off.max(axis=(0, 1)))
                    n_rows += off[..., 0].size
                on_prompt(
                    f"prompt {number + 1} of {len(prompts)}: {n_rows:,} rows, largest difference {largest.max():.1e}"
                )
    return Comparison(n_rows, dict(zip(EFFECTS, largest.tolist(), strict=True)))


@contextlib.contextmanager
def _float64_forwards() -> Iterator[None]:
    with torch.no_grad(), InFloat64():
        yield


def _new_values(
    ablation: str,
    heads: Sequence[Head],
    forwards: PlainForwards,
    untouched: Sequence[CleanPrompt],
    partner: int,
    n_inputs: int,
) -> list[tuple[Head, Tensor]]:
    """The z that each head's own is replaced by."""
    if ablation == "resample":
        return [(head, untouched[partner].head_values(head)[:n_inputs]) for head in heads]
    if ablation == "mean":
        return [(head, torch.cat([clean.head_values(head) for clean in untouched]).mean(dim=0)) for head in heads]
    return [(head, forwards.value_biases[head]) for head in heads]


def _prompts(con: duckdb.DuckDBPyConnection, run_id: int) -> tuple[list[Tensor], list[int]]:
    """Tokens and partner of every prompt, by `prompt_id`."""
    rows = con.execute(
        "SELECT token_ids, partner_id FROM prompts WHERE run_id = $run_id ORDER BY prompt_id", {"run_id": run_id}
    ).fetchall()
    return [torch.tensor(tokens) for tokens, _ in rows], [partner for _, partner in rows]


def _stored(
    con: duckdb.DuckDBPyConnection, run_id: int, prompt: int
) -> Iterator[tuple[tuple[str, list[Head]], NDArray[np.float64]]]:
    """For each ablation its heads and their stored rows on one prompt [head, pos, effect], 0 for a post-norm's that is NULL."""
    columns = ", ".join(EFFECTS).replace("repair_post_norm", "coalesce(repair_post_norm, 0) AS repair_post_norm")
    found = con.execute(
        f"""
        SELECT CAST(ablation AS VARCHAR) AS ablation, layer, head, pos, {columns} FROM measurements
        WHERE run_id = $run_id AND prompt_id = $prompt ORDER BY ablation, layer, head, pos
        """,
        {"run_id": run_id, "prompt": prompt},
    ).fetchnumpy()
    effects = np.stack([found[name].astype(np.float64) for name in EFFECTS], axis=-1)
    for ablation in sorted(set(found["ablation"])):
        here = found["ablation"] == ablation
        n_positions = int(found["pos"][here].max()) + 1
        keys = zip(found["layer"][here][::n_positions], found["head"][here][::n_positions], strict=True)
        heads = [(int(layer), int(head)) for layer, head in keys]
        yield (str(ablation), heads), effects[here].reshape(len(heads), n_positions, len(EFFECTS))


def _print(found: Comparison, model: str, measuring: float, comparing: float) -> None:
    table = Table(
        "column",
        title=f"{Path(model).name}: {found.rows:,} rows; {measuring:.0f} s measured, {comparing:.0f} s by the reference",
        title_justify="left",
        min_width=60,
    )
    table.add_column("largest difference", justify="right")
    for column, difference in found.largest.items():
        table.add_row(column, f"{difference:.1e}")
    Console().print(table)


if __name__ == "__main__":
    main()

"""What a run came to, on one screen: how much was stored, how exact it is, self-repair by layer, what to ask next."""

import shlex
from pathlib import Path
from typing import Any, NamedTuple

from selfrepair.queries.sandbox.reader import Reader
from selfrepair.warehouse.files import human_bytes

Row = dict[str, Any]


class _Column(NamedTuple):
    """One column of the table: lines of its heading, the view's column, what it is multiplied by, decimals."""

    heading: tuple[str, str, str]
    name: str
    factor: float = 1
    decimals: int = 3


_COLUMNS = (
    _Column(("", "", "layer"), "layer", decimals=0),
    _Column(("direct", "effect", "[logits]"), "mean_direct_effect"),
    _Column(("", "removed", "[logits]"), "mean_removed_effect"),
    _Column(("change", "in logit", "[logits]"), "mean_logit_change"),
    _Column(("given back", "by LayerNorm", "[logits]"), "mean_repair_layernorm"),
    _Column(("given back", "by attention", "[logits]"), "mean_repair_attention"),
    _Column(("given back", "by MLPs", "[logits]"), "mean_repair_mlp"),
    _Column(("self-", "repair", "[logits]"), "mean_self_repair"),
    _Column(("of direct", "effect", "[%]"), "total_fraction_of_effect", 100, 1),
    _Column(("LayerNorm,", "0 to 100", "[%]"), "clipped_layernorm_fraction", 100, 1),
    _Column(("all three,", "0 to 100", "[%]"), "clipped_total_fraction", 100, 1),
)


def demo_report(db: Path, run_id: int) -> str:
    """The report on run `run_id` of the warehouse `db`, a screenful of plain text."""
    with Reader(db) as reader:
        run = reader.frame(f"""
            SELECT runs.*, models.name AS model, len(selected_heads) AS n_heads
            FROM runs INNER JOIN models USING (model_id) WHERE run_id = {run_id}
        """).row(0, named=True)
        n_rows, n_rows_in_file = reader.frame(f"""
            SELECT count(*) FILTER (run_id = {run_id}), count(*) FROM measurements
        """).row(0)
        layers = reader.frame(f"""
            FROM layer_repair
            WHERE run_id = {run_id} AND ablation = 'resample' AND population = 'top2' ORDER BY layer
        """).to_dicts()
    facts = _facts(run, n_rows, n_rows_in_file, db)
    if not layers:
        return f"{facts}\n\nThe run's status is {run['status']}, and no view aggregates it. See: selfrepair runs"
    parts = [
        facts,
        "Self-repair by layer: resample ablation (another prompt's output in place of one head's), means over each head's\n"
        "2 % of tokens with the highest direct effect",
        _table(layers),
        _reading(layers),
        _next_steps(db),
    ]
    return "\n\n".join(parts)


def _facts(run: Row, n_rows: int, n_rows_in_file: int, db: Path) -> str:
    n_bytes = db.stat().st_size
    size = f"{human_bytes(n_bytes)}, {n_bytes / n_rows_in_file:,.1f} bytes a row"
    if n_rows_in_file > n_rows:
        size += f" with the {n_rows_in_file - n_rows:,} of other runs"
    return "\n".join(
        [
            f"Run {run['run_id']}: {run['model']}, {run['n_heads']} heads, {run['n_prompts']} prompts",
            f"  stored       {n_rows:,} rows in {db} ({size})",
            f"  identity     self-repair = LayerNorm + attention + MLPs on every row; largest error "
            f"{_error(run['identity_error_max'])}",
            f"  cross-check  {run['crosscheck_rows']:,} rows measured again through TransformerLens hooks; largest difference "
            f"{_error(run['crosscheck_error_max'])}",
        ]
    )


def _error(logits: float | None) -> str:
    return "not known" if logits is None else f"{logits:.1e} logits"


def _table(layers: list[Row]) -> str:
    cells = [[column.heading[line] for column in _COLUMNS] for line in range(3)]
    cells += [[_cell(row[column.name], column) for column in _COLUMNS] for row in layers]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def _cell(value: float | None, column: _Column) -> str:
    return "" if value is None else f"{value * column.factor:z.{column.decimals}f}"


def _reading(layers: list[Row]) -> str:
    most = max(layers, key=lambda row: row["mean_self_repair"])
    removed, change, back = (most[f"mean_{name}"] for name in ("removed_effect", "logit_change", "self_repair"))
    what = "gave back, and that is self-repair" if back > 0 else "took away on top: no layer repairs itself here"
    return (
        f"How to read it: ablating a head of layer {most['layer']} takes {removed:z.3f} logits of direct effect "
        f"from the correct token,\nand its logit changes by {change:z.3f}. The difference, {abs(back):.3f}, "
        f"is what the rest of the model {what}.\n"
        "'of direct effect' is mean self-repair over mean direct effect; where it is below 0, the rest made it worse.\n"
        "The last two columns are the paper's: each token's fraction cut to 0..100 % before the mean, so never below 0."
    )


def _next_steps(db: Path) -> str:
    at = f" --db {shlex.quote(str(db))}"
    best = (
        "SELECT label, mean_direct_effect, mean_self_repair FROM head_repair "
        "WHERE ablation = 'resample' AND population = 'top2' ORDER BY mean_self_repair DESC LIMIT 5"
    )
    return "\n".join(
        [
            "Ask further:",
            f'  selfrepair query "{best}"{at}',
            f"  selfrepair query head_repair --csv{at}",
            "  selfrepair describe layer_repair",
        ]
    )

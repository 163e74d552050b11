"""A run of a published model against the paper's own numbers, on one screen."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selfrepair.app.cli.run_report import facts_of, stored_run
from selfrepair.app.data.published import QUANTITIES
from selfrepair.app.wording.columns import words
from selfrepair.queries.catalog.quoting import literal
from selfrepair.queries.sandbox.session import Session
from selfrepair.warehouse.cli.terminal import plain_lines
from selfrepair.warehouse.errors import SelfRepairError

Row = dict[str, Any]


def reproduce_report(db: Path, run_id: int, published: str) -> str:
    """The report on run `run_id` of the warehouse `db` against the paper's model `published`, as plain text.

    Raises SelfRepairError where the views do not recognise the run as one of that model.
    """
    with Session(db) as session:
        run = stored_run(session, run_id)
        agreements = session.frame(f"""
            FROM reproduction_agreement
            WHERE
                run_id = {run_id} AND population = 'top2' AND published_run = 'default'
                AND published_model = {literal(published)}
        """).to_dicts()
        claims = session.frame(f"FROM reproduction_claims WHERE run_id = {run_id} ORDER BY claim_number").to_dicts()
    if not agreements:
        raise SelfRepairError(
            f"run {run_id} cannot be compared with {published}: it is a {run['status']} run of {run['model']} with "
            f"{run['n_layers']} layers of {run['heads_in_layer']} heads. What can be compared: selfrepair describe reproduction"
        )
    parts = [
        f"Run {run_id}: {run['model']}, {run['n_prompts']:,} prompts of {run['dataset']}, against the paper's {published}\n"
        f"{facts_of(run, db)}",
        "Agreement over heads with the published numbers; rows used: top 2 % by direct effect (direct logit attribution).\n"
        "Authors': run-to-run agreement of the authors' own data, two runs of pythia-160m",
        _agreement_table(agreements),
        "The paper's claims",
        _claim_table(claims),
        "A quantity agrees where the interval of Spearman's correlation lies above the authors' own less 0.15, a claim where\n"
        "its interval lies within the margin around the published number, or above the bound. Why another verdict: column\n"
        "reason of reproduction_claims. Margins and known differences: docs/reproduction.md",
        _next_steps(db, run_id),
    ]
    return "\n\n".join(parts)


def _agreement_table(rows: list[Row]) -> str:
    names = (
        "quantity",
        "heads",
        "Spearman",
        "95 % interval",
        "authors'",
        "mean |difference|",
        "authors'",
        "slope",
        "verdict",
    )
    cells = [
        (
            words(row["quantity"]),
            f"{row['n_heads']}",
            _number(row["spearman"], 2),
            _interval(row["spearman_low"], row["spearman_high"], 2),
            _number(row["authors_spearman"], 2),
            _number(row["mean_absolute_difference"], 3),
            _number(row["authors_mean_absolute_difference"], 3),
            _number(row["slope"], 2),
            row["verdict"] or "-",
        )
        for row in sorted(rows, key=lambda row: QUANTITIES.index(row["quantity"]))
    ]
    return _table(names, cells, left=(0, 8))


def _claim_table(rows: list[Row]) -> str:
    names = ("claim", "measured", "95 % interval", "published", "verdict")
    cells = [
        (
            row["statement"],
            _number(row["value"], 3),
            _interval(row["low"], row["high"], 3),
            f"above {row['expected_above']:g}"
            if row["published_value"] is None
            else _number(row["published_value"], 3),
            row["verdict"] or "-",
        )
        for row in rows
    ]
    return _table(names, cells, left=(0, 4))


def _table(names: tuple[str, ...], cells: Sequence[tuple[str, ...]], left: tuple[int, ...]) -> str:
    return "\n".join(plain_lines(names, cells, [place not in left for place in range(len(names))]))


def _number(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:z.{decimals}f}"


def _interval(low: float | None, high: float | None, decimals: int) -> str:
    return "-" if low is None or high is None else f"{_number(low, decimals)} to {_number(high, decimals)}"


def _next_steps(db: Path, run_id: int) -> str:
    at = f" --db {shlex.quote(str(db))}"
    differing = (
        f"SELECT label, measured_value, published_value FROM reproduction WHERE run_id = {run_id} AND quantity = 'self_repair' "
        "AND published_run = 'default' ORDER BY abs(difference) DESC LIMIT 5"
    )
    return "\n".join(
        [
            "Next:",
            f'  selfrepair query "{differing}"{at}',
            f"  selfrepair app{at}    # the page Reproduce",
            "  selfrepair describe reproduction_claims",
        ]
    )

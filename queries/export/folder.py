"""A whole warehouse as a folder of Parquet files, ready to be published: one data set for each table and view.

FOLDER/README.md                                          what is in it: runs, files, columns, units
FOLDER/head_repair/model=gpt2/data.parquet                rows of one model; model is a column to readers
FOLDER/models/data.parquet                                what belongs to no run
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from selfrepair.queries.catalog.describe import markdown_columns, markdown_table, public
from selfrepair.queries.catalog.quoting import identifier
from selfrepair.queries.catalog.relations import Relation, relations
from selfrepair.queries.export.files import appearing_whole, write_file
from selfrepair.queries.sandbox.session import Session
from selfrepair.warehouse.cli.terminal import cell_text
from selfrepair.warehouse.errors import SelfRepairError, no_run

OnWritten = Callable[[str, int], None]
"""Called with the name of a table or view and the number of its rows, when its files are written."""

_MODELS = """
SELECT models.name, list(runs.run_id ORDER BY runs.run_id)
FROM models INNER JOIN runs USING (model_id)
GROUP BY models.name
ORDER BY models.name
"""

_RUNS = """
SELECT
    runs.run_id,
    models.name || coalesce('@' || models.revision, '') || coalesce(' step ' || models.checkpoint, '') AS model,
    datasets.name || coalesce('/' || datasets.split, '') || coalesce('@' || datasets.revision, '') AS dataset,
    datasets.packing,
    datasets.seq_len,
    runs.n_prompts,
    coalesce(runs.logit_of, 'next_token') AS logit_of,
    len(runs.selected_heads) AS heads,
    runs.ablations,
    runs.given_heads,
    runs.dtype,
    runs.device,
    runs.conventions,
    runs.status,
    runs.identity_error_max,
    runs.crosscheck_rows,
    runs.crosscheck_error_max,
    runs.software
FROM runs
INNER JOIN models USING (model_id)
INNER JOIN datasets USING (dataset_id)
ORDER BY runs.run_id
"""


@dataclass(frozen=True)
class _Written:
    relation: Relation
    by_model: bool
    n_rows: int


def export_all(session: Session, folder: Path, on_written: OnWritten = lambda name, n_rows: None) -> int:
    """Write every table and every view but the building blocks into a new `folder`; returns the number of rows.

    The folder appears when it is whole. Raises SelfRepairError when there is something
    in the folder already, the warehouse has no run, or the files cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SelfRepairError(
            f"{folder} is there already and would be mixed with this export. Name another folder, or remove that one."
        )
    models = session.frame(_MODELS).rows()
    if not models:
        raise SelfRepairError(no_run(session.db))
    written = []
    with appearing_whole(folder) as temporary:
        temporary.mkdir()
        for relation in public(relations().values()):
            written.append(_write(session, relation, models, temporary / relation.name))
            on_written(relation.name, written[-1].n_rows)
        (temporary / "README.md").write_text(_card(session, written), encoding="utf-8")
    return sum(one.n_rows for one in written)


def _write(session: Session, relation: Relation, models: Iterable[tuple[str, list[int]]], folder: Path) -> _Written:
    names = {column.name for column in relation.columns}
    if "run_id" not in names:
        return _Written(relation, False, _write_rows(session, f"FROM {identifier(relation.name)}", folder))
    columns = "* EXCLUDE (model)" if "model" in names else "*"
    n_rows = 0
    for model, run_ids in models:
        sql = f"SELECT {columns} FROM {identifier(relation.name)} WHERE run_id IN ({', '.join(map(str, run_ids))})"
        n_rows += _write_rows(session, sql, folder / f"model={quote(model, safe='')}")
    return _Written(relation, True, n_rows)


def _write_rows(session: Session, sql: str, folder: Path) -> int:
    folder.mkdir(parents=True)
    return write_file(session.batches(sql).to_reader(), folder / "data.parquet", "parquet")


def _card(session: Session, written: Sequence[_Written]) -> str:
    """The folder's README.md: what was measured and how, and what each column of each file means."""
    parts = [
        "# Self-repair, measured head by head",
        "Written by `selfrepair export --all`. One attention head of a language model at a time is ablated, in one or more "
        "ways, at every token of every prompt; the files hold the change in the correct token's logit, the self-repair by "
        "the rest of the model, and its LayerNorm, attention and MLP (and post-norm) parts. The definitions are "
        'those of Rushing & Nanda, "Explorations of Self-Repair in Language Models" (ICML 2024, arXiv 2402.15390).',
        "## Runs",
        "A run is one model on one set of prompts, measured in one way. On every row, self_repair = repair_layernorm + "
        "repair_attention + repair_mlp (+ repair_post_norm, where it is not NULL); identity_error_max is the largest "
        "violation, before rounding [logits]. "
        "crosscheck_error_max is the largest difference of the rows that were measured again by whole forwards [logits]. "
        "A view leaves out runs whose status is failed.",
        _runs(session),
        "## How to read the files",
        "Each table or view is a folder of Parquet files, partitioned by model; readers of Hive partitions see the column "
        "`model`. "
        "The column run_id distinguishes the rows of different runs.",
        "```sql\nSELECT * FROM read_parquet('head_repair/**/*.parquet', hive_partitioning = true) -- DuckDB\n```",
        '```python\npolars.read_parquet("head_repair/**/*.parquet", hive_partitioning=True)\n```',
        "## Files",
        markdown_table(
            ("folder", "rows", "partitioned by model", "what it is"),
            [
                (f"`{one.relation.name}`", f"{one.n_rows:,}", "yes" if one.by_model else "", one.relation.summary)
                for one in written
            ],
        ),
    ]
    for one in written:
        parts += [f"## {one.relation.name}", markdown_columns(one.relation)]
    return "\n\n".join(parts) + "\n"


def _runs(session: Session) -> str:
    runs = session.ask(_RUNS).frame
    rows = [[cell_text(value, name) for name, value in row.items()] for row in runs.to_dicts()]
    return markdown_table(runs.columns, rows)

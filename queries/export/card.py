"""The README.md of a publication: what was measured and how, what each file and column is, and what the hub's viewer needs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from selfrepair.queries.catalog.describe import markdown_columns, markdown_table
from selfrepair.queries.catalog.relations import Relation
from selfrepair.queries.sandbox.session import Session
from selfrepair.warehouse.cli.terminal import cell_text
from selfrepair.warehouse.database.publication import FILES_VARIABLE, SMALL_FILE

_FIRST = "head_repair"
"""What the hub's viewer shows first."""

_RUNS = """
SELECT
    runs.run_id,
    runs.run_name AS name,
    models.name || coalesce('@' || models.revision, '') || coalesce(' step ' || models.checkpoint, '') AS model,
    datasets.name || coalesce('/' || datasets.split, '') || coalesce('@' || datasets.revision, '') AS dataset,
    datasets.packing,
    datasets.seq_len,
    runs.n_prompts,
    runs.n_measurements AS rows,
    coalesce(runs.logit_of, 'next_token') AS logit_of,
    len(runs.selected_heads) AS heads,
    runs.ablations,
    runs.given_heads,
    runs.mechanisms,
    runs.dtype,
    runs.device,
    runs.conventions,
    runs.checks,
    runs.identity_error_max,
    runs.crosscheck_rows,
    runs.crosscheck_error_max,
    runs.software,
    runs.command,
    runs.tags,
    runs.note
FROM runs
INNER JOIN models USING (model_id)
INNER JOIN datasets USING (dataset_id)
ORDER BY runs.run_id
"""

_CITATION = """```bibtex
@inproceedings{rushing2024explorations,
  title     = {Explorations of Self-Repair in Language Models},
  author    = {Rushing, Cody and Nanda, Neel},
  booktitle = {International Conference on Machine Learning (ICML)},
  year      = {2024},
  note      = {arXiv 2402.15390}
}
```"""


@dataclass(frozen=True)
class About:
    """What is said of a publication beside what is in it; `licence` is an identifier of the hub's, such as cc-by-4.0."""

    title: str | None
    licence: str | None
    without_text: bool
    version: str
    day: date


@dataclass(frozen=True)
class Written:
    """A table or view that the publication has as Parquet: its rows, in one file, or in one for each run."""

    relation: Relation
    n_rows: int
    by_run: bool

    @property
    def files(self) -> str:
        """Where its files are."""
        return f"{self.relation.name}/{'run_id=*/' if self.by_run else ''}rows.parquet"


def card(session: Session, written: Sequence[Written], about: About) -> str:
    """The card of a publication that `session` has open and in which the tables and views `written` have rows."""
    runs = session.ask(_RUNS).frame
    models = list(dict.fromkeys(map(str, runs["model"])))
    title = about.title or f"Self-repair of {', '.join(models[:3])}{', ...' if len(models) > 3 else ''}"
    text = (
        "Text is withheld: no prompt, token or target is in any file, and neither is the name of the data set. Columns that "
        "held them are NULL; prompts have the length they had."
        if about.without_text
        else "Prompts and tokens are from the data sets named below, whose own licences hold for them."
    )
    parts = [
        _header(written, about, title),
        f"# {_escaped(title)}",
        "One attention head of a language model at a time is ablated, in one or more ways, at every token of every prompt; the "
        "files hold the change in the correct token's logit, the self-repair by the rest of the model, and its LayerNorm, "
        'attention and MLP (and post-norm) parts. The definitions are those of Rushing & Nanda, "Explorations of Self-Repair '
        f'in Language Models" (ICML 2024, arXiv 2402.15390). Measured and published with selfrepair {about.version}, '
        f"{about.day.isoformat()}.",
        text,
        "## How it was measured",
        "A run is one model on one set of prompts, measured in one way. On every row, self_repair = repair_layernorm + "
        "repair_attention + repair_mlp (+ repair_post_norm, where it is not NULL); identity_error_max is the largest "
        "violation, before rounding [logits]. crosscheck_error_max is the largest difference of the rows that were measured "
        "again by whole forwards [logits]. Every rule of `selfrepair verify` held in these runs when they were published.",
        *_by_run(runs.to_dicts()),
        "## How to read it",
        "Put the address of this data set, or the path of a copy, for ADDRESS.",
        "```sh\nselfrepair app --db ADDRESS                # the pages: pip install 'selfrepair[app,hub]'\n"
        "selfrepair query most_repaired_heads --db ADDRESS\n```",
        f'```python\nfrom selfrepair import Warehouse\nWarehouse("ADDRESS").view("{_FIRST}")\n\n'
        f'from datasets import load_dataset\nload_dataset("ADDRESS", "{_FIRST}", split="train")\n```',
        f"`{SMALL_FILE}` has runs, summaries and all views; it finds the rows in the folder it is opened in, or where the "
        f"variable {FILES_VARIABLE} says:",
        f'```sh\ncd FOLDER && duckdb -readonly {SMALL_FILE} "FROM {_FIRST}"\n```',
        f"```sql\nSET VARIABLE {FILES_VARIABLE} = '/path/to/FOLDER/';  -- or 'hf://datasets/OWNER/NAME/'\n"
        "SELECT * FROM self_repair WHERE layer = 4 AND head = 2;\n```",
        f"Licence: {_escaped(about.licence) if about.licence else 'none was given; ask whoever published it'}.",
        "## Citation",
        _CITATION,
        "## Files",
        markdown_table(
            ("files", "rows", "what it is"),
            [(f"`{one.files}`".replace("*", "N"), f"{one.n_rows:,}", one.relation.summary) for one in written],
        ),
    ]
    for one in written:
        parts += [f"## {one.relation.name}", markdown_columns(one.relation)]
    return "\n\n".join(parts) + "\n"


def _header(written: Sequence[Written], about: About, title: str) -> str:
    """YAML, of which JSON is a part: texts and lists are written as such."""
    lines = [
        "---",
        f"pretty_name: {_quoted(title)}",
        f"license: {_quoted(about.licence or 'unknown')}",
        'tags: ["mechanistic-interpretability", "self-repair", "selfrepair"]',
        f'size_categories: ["{_size(sum(one.n_rows for one in written))}"]',
        "configs:",
    ]
    for one in sorted(written, key=lambda one: one.relation.name != _FIRST):
        lines.append(f"- config_name: {one.relation.name}")
        lines.append(f"  data_files: {json.dumps(one.files)}")
        if one.relation.name == _FIRST:
            lines.append("  default: true")
    return "\n".join([*lines, "---"])


def _quoted(text: str) -> str:
    """As YAML reads it: JSON's pairs of escapes would be two characters, and what cannot be printed is refused."""
    return json.dumps("".join(one if one.isprintable() else " " for one in text), ensure_ascii=False)


def _size(n_rows: int) -> str:
    """The hub's name for so many rows."""
    bounds = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (1e7, "1M<n<10M"))
    more = ((1e8, "10M<n<100M"), (1e9, "100M<n<1B"))
    return next((name for most, name in (*bounds, *more) if n_rows < most), "1B<n<10B")


def _by_run(runs: Sequence[dict[str, object]]) -> list[str]:
    parts = []
    for run in runs:
        rows = [(name, cell_text(value, name)) for name, value in run.items() if value not in (None, [], "")]
        parts.append(markdown_table(("of the run", "value"), rows))
    return parts


def _escaped(text: str) -> str:
    """One line, in which nothing is Markdown or HTML: names are anybody's."""
    shown = cell_text(text)
    return "".join(f"\\{character}" if character in "\\`*_{}[]<>()#+!|~&$" else character for character in shown)

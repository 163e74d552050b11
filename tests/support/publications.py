"""Publications in folders, made once: of two runs whole, and of one without its text."""

from pathlib import Path

import duckdb
from click.testing import CliRunner

from selfrepair.app.cli.main import main
from selfrepair.queries.export.publication import Options, publish
from selfrepair.queries.sandbox.session import Session
from support.fabricate import fabricate
from support.loaded import stored
from support.templates import made_once

MODEL = "hub/mod el=1%é*[_x_]"
"""A model whose name no folder can have as it is, and no Markdown as it stands."""


WORD = "quaxolotl"
"""In every prompt and token, and in nothing else."""


def published() -> Path:
    """A folder with `w.duckdb`, its publication `whole`, and `bare`, that of its first run without text. `said` is what the
    command printed that made the last one. Nothing in it may be changed.
    """
    return made_once("publications", _make)


def _make(folder: Path) -> None:
    runs = (
        fabricate("run-x", mechanisms=True, n_units=1),
        fabricate("run-y", model=MODEL, seed=3, n_units=1, post_norms=True),
    )
    db = stored(folder, *runs)
    with duckdb.connect(str(db)) as con:
        for table, names in {"tokens": ("token", "target", "foil"), "prompts": ("text",)}.items():
            for name in names:
                con.execute(f"UPDATE {table} SET {name} = '{WORD} ' || {name}")
        con.execute("UPDATE units SET host = 'ferret', worker = 'ferret:17'")
        con.execute("UPDATE runs SET run_name = 'baseline', note = 'says t1 t2' WHERE run_id = 1")
        con.execute(  # or it would be damaged
            "UPDATE logit_lens SET logprob = clean_logprob, rank = clean_rank FROM tokens, runs, models "
            "WHERE (logit_lens.run_id, logit_lens.prompt_id, logit_lens.pos) = (tokens.run_id, tokens.prompt_id, tokens.pos) "
            "AND runs.run_id = tokens.run_id AND models.model_id = runs.model_id AND layer = n_layers - 1"
        )
        con.execute("UPDATE runs SET command = 'selfrepair ingest --dataset /home/ann/x.jsonl' WHERE run_id = 2")
    with Session(db) as session:
        assert publish(session, folder / "whole", Options(licence="cc-by-4.0")) == [1, 2]
    args = ["publish", str(folder / "bare"), "--db", str(db), "--run", "baseline", "--without-text", "--title", "T <b>"]
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 0, result.output
    (folder / "said").write_text(f"{result.stdout}\n{result.stderr}")

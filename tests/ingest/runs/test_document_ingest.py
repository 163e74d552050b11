"""An ingest of one prompt a document: prompts of many lengths, each measured with a partner of its own."""

import duckdb
import pytest
from click.testing import CliRunner

from selfrepair.app.cli.main import main
from support import tiny
from support.prompts import jsonl

pytestmark = pytest.mark.usefixtures("without_summaries")

FEW = (
    "--heads",
    "L1H2",
    "--ablation",
    "resample",
    "--no-edges",
    "--no-logit-lens",
    "--neurons",
    "none",
    "--device",
    "cpu",
)


def test_documents_are_measured_by_length_and_skipped_ones_are_counted(tmp_path):
    bodies = ["return first", "", "return first + second", "(", "return first", "return second + first", "first"]
    texts = jsonl(tmp_path / "texts.jsonl", *({"body": body, "text": 7} for body in bodies))
    db = tmp_path / "w.duckdb"
    words = ["ingest", "--model", str(tiny.save(tmp_path / "tiny")), "--dataset", str(texts), "--text-column", "body"]
    words += ["--packing", "document", "--prompts", "4", "--seq-len", "32", "--db", str(db), *FEW]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert done.stderr.startswith(
        "1 document skipped: no text.\n1 document skipped: resample ablation needs another one of the same length.\n"
    )
    with duckdb.connect(str(db), read_only=True) as connection:
        prompts = connection.execute(
            "SELECT document_id, partner_id, len(token_ids) FROM prompts ORDER BY prompt_id"
        ).fetchall()
        assert connection.execute("SELECT packing FROM datasets").fetchall() == [("document",)]
        measured = connection.execute("SELECT prompt_id, count(*) FROM measurements GROUP BY ALL ORDER BY ALL")
        assert measured.fetchall() == [(number, length - 1) for number, (*_, length) in enumerate(prompts)]
        assert connection.execute("SELECT status FROM runs").fetchall() == [("complete",)]
    assert [document for document, *_ in prompts] == [0, 4, 2, 5]
    assert [partner for _, partner, _ in prompts] == [1, 0, 3, 2]
    assert prompts[0][2] == prompts[1][2] < prompts[2][2] == prompts[3][2]

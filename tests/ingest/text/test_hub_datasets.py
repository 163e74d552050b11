"""Datasets of a hub, streamed by the real client from one on this machine, and what is said where that cannot be."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selfrepair.ingest.text.documents import Document
from selfrepair.ingest.text.sources import open_source
from selfrepair.warehouse.errors import SelfRepairError
from support import hub
from support.prompts import jsonl, prompts_of

TEXT = "return first + second " * 8
CONFIGS = (
    "---\nconfigs:\n- config_name: small\n  data_files: small/*\n- config_name: large\n  data_files: large/*\n---\n"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Datasets of every kind, and this process asking nobody else."""
    root = tmp_path_factory.mktemp("datasets")

    def folder(name: str) -> Path:
        path = root / name
        path.mkdir()
        return path

    lines, newer, shards, script, gated = map(folder, ("lines", "newer", "shards", "script", "gated"))
    jsonl(lines / "train.jsonl", {"text": TEXT}, {"text": None}, {"text": "first"})
    jsonl(lines / "test.jsonl", {"text": "of the test split"})
    jsonl(newer / "train.jsonl", {"text": "of another revision"})
    for shard in range(2):
        names = {"title": ["a title"] * 3, "content": [f"{TEXT * 600}{shard}"] * 3}
        pq.write_table(pa.table(names), shards / f"validation-0000{shard}-of-00002.parquet")
    (script / "script.py").write_text("print('is not run')\n")
    jsonl(gated / "train.jsonl", {"text": TEXT})
    (folder("bare") / "README.md").write_text("nothing yet\n")
    several = folder("several")
    (several / "README.md").write_text(CONFIGS)
    for name in ("small", "large"):
        (several / name).mkdir()
        jsonl(several / name / "train.jsonl", {"text": f"of the {name} one"})
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), folder("rowless") / "train.parquet")
    (folder("empty") / "train.jsonl").touch()
    broken = folder("broken")
    (broken / "train.jsonl").write_text(json.dumps({"text": TEXT}) + "\nnot json\n")
    with hub.serve() as server:
        for path in sorted(root.iterdir()):
            if path.name != "newer":
                server.add("datasets", f"lab/{path.name}", path, gated=path.name == "gated")
        server.add("datasets", "lab/lines", newer, "v2")
        with hub.ask_only(server.address, tmp_path_factory.mktemp("cache")):
            yield server


def test_a_hub_dataset_is_read_by_split_revision_column_and_configuration(server):
    assert list(open_source("lab/lines").documents) == [Document(0, TEXT), Document(1, ""), Document(2, "first")]
    assert list(open_source("lab/lines", split="test").documents) == [Document(0, "of the test split")]
    assert list(open_source("lab/lines", revision="v2").documents) == [Document(0, "of another revision")]
    assert list(open_source("lab/several:large").documents) == [Document(0, "of the large one")]
    shards = open_source("lab/shards", split="validation", text_column="content")
    assert [document.text[-1] for document in shards.documents] == ["0"] * 3 + ["1"] * 3


def test_no_file_is_asked_for_that_is_not_needed(server):
    before = len(server.asked("00001-of"))
    assert len(prompts_of(open_source("lab/shards", split="validation", text_column="content"), n_prompts=5)) == 5
    assert len(server.asked("00001-of")) == before


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "lab/lines",
            {"split": "dev"},
            r"dataset 'lab/lines' has no split 'dev'; it has train, test\. Use --split train\.",
        ),
        ("lab/shards", {}, r"has no split 'train'; it has validation\. Use --split validation\."),
        ("lab/shards", {"split": "validation"}, r"it has title, content\. Use --text-column content\."),
        (
            "lab/nothing",
            {},
            r"'lab/nothing' \(split 'train'\) cannot be read: .*doesn't exist on the Hub.* Check its name",
        ),
        ("lab/gated", {}, r"gated dataset.* Accept its terms on its page of the hub, and set HF_TOKEN\."),
        ("lab/lines", {"revision": "v9"}, r"Revision 'v9' doesn't exist .* Check --dataset-revision, or leave it out"),
        ("lab/script", {}, r"scripts are no longer supported.* Try --dataset-revision refs/convert/parquet"),
        ("lab/several", {}, r"\['small', 'large'\]\. It has several .* choose one with --dataset NAME:CONFIG\."),
        ("lab/several:big", {}, r"'lab/several:big' .*BuilderConfig 'big' not found\. Available: \['small', 'large'\]"),
        ("lab/bare", {}, r"'lab/bare' \(split 'train'\) cannot be read: .*`stdlib`, which needs no network\."),
        ("lab/rowless", {}, r"'lab/rowless' .*It has no rows; choose another --split\."),
        ("lab/empty", {}, r"'lab/empty' .*It has no rows; choose another --split\."),
        ("lab/broken", {}, r"dataset 'lab/broken' \(split 'train'\) cannot be read: .*`stdlib`"),
    ],
)
def test_what_cannot_be_read_says_what_to_do(server, name, options, message):
    with pytest.raises(SelfRepairError, match=message) as raised:
        prompts_of(open_source(name, **options))
    assert len(str(raised.value).splitlines()) == 1

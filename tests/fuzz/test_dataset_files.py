"""Any bytes are rows of a dataset, or a SelfRepairError that names the file."""

import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from selfrepair.ingest.text.documents import AnswerRow, Document, TokenRow
from selfrepair.ingest.text.sources import open_source
from selfrepair.warehouse.errors import SelfRepairError
from support.tiers import examples

_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=4,
)
_KEYS = st.sampled_from(("text", "tokens", "answer", "foil", "content", ""))
_ROWS = st.one_of(
    _VALUES, st.dictionaries(_KEYS, st.one_of(_VALUES, st.lists(st.integers(-1, 600), max_size=4)), max_size=4)
)
_LINES = st.one_of(
    _ROWS.map(json.dumps), st.sampled_from(("", "{", '{"text": NaN}', '{"text": "\\ud800"}', "nul\0l", "[" * 99))
)


def _parquet(columns: dict[str, list[object]]) -> bytes:
    with io.BytesIO() as file:
        pq.write_table(pa.table(columns), file)
        return file.getvalue()


_TABLES: tuple[dict[str, list[object]], ...] = (
    {"text": ["a", None]},
    {"tokens": [[1, 2], None]},
    {"tokens": [[1, None]], "answer": [1]},
    {"text": [b"\xff", b""]},
    {"text": [{"a": 1}]},
    {},
)
contents = st.one_of(
    st.lists(_LINES, max_size=5).map(lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass")),
    st.sampled_from(_TABLES).map(_parquet),
    st.text(max_size=40).map(lambda text: text.encode("utf-16")),
    st.binary(max_size=60),
)
_PACKINGS = (
    bytes,
    lambda data: gzip.compress(data, mtime=0),
    lambda data: pa.Codec("zstd").compress(data, asbytes=True),
    lambda data: gzip.compress(gzip.compress(data, mtime=0), mtime=0),
)
NAMES = ("a.jsonl", "a.txt", "a.parquet", "a.jsonl.gz", "a.txt.zst", "a.jsonl.zst", "a.parquet.gz")


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Contents, packed or not, whole or with some bytes that are others, missing or twice there."""
    data = draw(st.sampled_from(_PACKINGS))(draw(contents))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        data = draw(
            st.sampled_from(
                (
                    data[:at],
                    data[:at] + draw(st.binary(min_size=1, max_size=4)) + data[at + 1 :],
                    data[:at] + data[max(0, at - 8) :],
                )
            )
        )
    return data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@example("a.jsonl", b'{"text": "\\ud800"}')
@given(st.sampled_from(NAMES), damaged())
@examples(quick=60, full=300)
def test_any_file_is_rows_or_is_refused(folder: Path, name: str, data: bytes) -> None:
    path = folder / name
    path.write_bytes(data)
    rows, said = [], name
    try:
        rows += open_source(str(path)).documents
    except SelfRepairError as error:
        said = str(error)
    assert all(isinstance(row, Document | TokenRow | AnswerRow) for row in rows)
    assert name in said
    assert [file.name for file in folder.iterdir()] == [name]
    assert path.read_bytes() == data
    path.unlink()

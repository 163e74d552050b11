"""Datasets by name or file: what opens, and what a bad one is told."""

import gzip
import json
import platform
import re
import tempfile
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfrepair.ingest.text import dataset_files, tokenizing
from selfrepair.ingest.text.dataset_files import BLOCK_BYTES, json_lines, text_blocks
from selfrepair.ingest.text.documents import Document, TokenRow
from selfrepair.ingest.text.given_prompts import given_prompts
from selfrepair.ingest.text.sources import open_source
from selfrepair.warehouse.errors import SelfRepairError, errors_in
from support.prompts import TOKENIZER, jsonl, prompts_of

TEXT = "return first + second " * 8


def test_files_of_text_and_of_tokens_give_prompts(tmp_path):
    plain = tmp_path / "a.txt"
    plain.write_text(TEXT)
    lines = jsonl(tmp_path / "a.jsonl", {"text": TEXT, "other": 1})
    pq.write_table(pa.table({"text": [TEXT]}), tmp_path / "a.parquet")
    found = [prompts_of(path).prompts for path in (plain, lines, tmp_path / "a.parquet")]
    assert found[0] == found[1] == found[2]
    assert all(prompt.tokens[0] == TOKENIZER.bos_token_id and len(prompt.tokens) == 6 for prompt in found[0])
    pq.write_table(pa.table({"tokens": [[4, 5, 6], [7, 8, 9]]}), tmp_path / "b.parquet")
    assert [prompt.tokens for prompt in prompts_of(tmp_path / "b.parquet").prompts] == [(4, 5, 6), (7, 8, 9)]


def test_a_source_says_what_it_is(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", {"text": "a"})
    named = [open_source(name) for name in (str(path), "stdlib", "random", "owner/name")]
    assert [(source.name, source.split, source.revision) for source in named] == [
        ("a.jsonl", None, None),
        ("stdlib", "heldout", f"Python {platform.python_version()}"),
        ("random", None, None),
        ("owner/name", "train", None),
    ]
    there = open_source("owner/name", split="test", revision="v2")
    assert (there.split, there.revision) == ("test", "v2")


def test_the_column_of_text_has_any_name(tmp_path):
    rows = [{"n": 3, "title": "short", "content": TEXT, "tokens": [1, 2]}]
    path = jsonl(tmp_path / "a.jsonl", *rows)
    assert list(open_source(str(path), text_column="content").documents) == [Document(0, TEXT)]
    with pytest.raises(
        SelfRepairError,
        match=r"row 1 has no `contents`; it has n, title, content, tokens\. Use --text-column content\.",
    ):
        list(open_source(str(path), text_column="contents").documents)
    with pytest.raises(SelfRepairError, match=r"column `n` holds int, not text\. Use --text-column content\."):
        list(open_source(str(path), text_column="n").documents)
    with pytest.raises(
        SelfRepairError, match=r"row 1 has neither .* it has no column\. Give rows of `text`, or of `tokens`"
    ):
        list(open_source(str(jsonl(tmp_path / "b.jsonl", {}))).documents)


def test_missing_text_is_an_empty_document(tmp_path):
    pq.write_table(pa.table({"text": [None, TEXT, ""]}), tmp_path / "a.parquet")
    found = prompts_of(tmp_path / "a.parquet")
    assert {prompt.document for prompt in found.prompts} == {1}
    assert found.notes == ("1 document skipped: no text.",)  # the last one was not needed
    with pytest.raises(SelfRepairError, match=r"2 documents skipped: no text\. Use --prompts \d+ or a larger"):
        prompts_of(tmp_path / "a.parquet", n_prompts=999)


def test_half_a_character_is_none(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(r'{"text": "a\ud83d b \ud83d\ude00"}')
    assert list(open_source(str(path)).documents) == [Document(0, "a? b \U0001f600")]


def test_a_byte_order_mark_is_no_text(tmp_path):
    plain, lines = tmp_path / "a.txt", tmp_path / "a.jsonl"
    plain.write_text(TEXT, encoding="utf-8-sig")
    lines.write_text(json.dumps({"text": TEXT}), encoding="utf-8-sig")
    for path in (plain, lines):
        assert list(open_source(str(path)).documents) == [Document(0, TEXT)]


LATIN = "caf\xe9\n".encode("latin-1")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "a"}\nnot json\n', r"line 2 is not JSON .* Write one object a line"),
        (
            "a.txt",
            b"abc\xc3\xa9\n" + LATIN,
            r"a\.txt is not UTF-8: byte 0xe9 at offset 9, line 2\. .* iconv -f LATIN1 -t UTF-8 a\.txt > new\.txt$",
        ),
        ("a.txt", b"word " * 100_000 + LATIN, r"byte 0xe9 at offset 500,003, line 1"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xe9"}\n', r"a\.jsonl is not UTF-8: byte 0xe9 at offset 24, line 2\."),
        ("a.txt", "a word".encode("utf-16"), r"byte 0xff at offset 0, line 1\. It is UTF-16\. .* iconv -f UTF-16"),
        ("a.txt", b"PK\x03\x04\x00\x00\xff", r"byte 0x00 at offset 4, line 1\. Text files have no such bytes"),
        ("a.txt", b"ends with\n\xc3", r"byte 0xc3 at offset 10, line 2"),
        (
            "a.txt",
            b"a" * (BLOCK_BYTES - 1) + "\u00e9\r\n".encode() + LATIN,  # a character across the border of two blocks
            r"byte 0xe9 at offset 262,150, line 2\.",
        ),
        ("a.txt", b"a" * (BLOCK_BYTES - 1) + b"\xe2\x82", r"byte 0xe2 at offset 262,143, line 1\."),
        (
            "a.jsonl",
            b'{"text": "a"}\n{"text": ' + b"[" * 100_000,
            r"line 2 is not JSON \(.*recursion.* Write one object",
        ),
        ("a.jsonl", b'{"tokens": [' + b"1" * 5_000 + b"]}", r"line 1 is not JSON \(.*digits.* Write one object a line"),
        ("a.parquet", b"PAR1 and no more", r"a\.parquet cannot be read: .*Write it again"),
        ("a.csv", b"text\n", r"a\.csv is not a \.txt, \.jsonl or \.parquet file\. Convert it"),
    ],
    ids=lambda value: "content" if isinstance(value, bytes) else None,
)
def test_unreadable_files_say_what_is_wrong(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SelfRepairError, match=message):
        prompts_of(tmp_path / name)


@pytest.mark.parametrize("name", ["missing.txt", "mine.csv", "data/mine.csv", "./mine", "my/own/texts", "~/texts"])
def test_a_missing_file_is_not_taken_for_a_hub_dataset(name):
    with pytest.raises(
        SelfRepairError,
        match=rf"{re.escape(name)} does not exist\. Give a \.txt, \.jsonl or \.parquet file, or `stdlib`",
    ):
        open_source(name)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.txt", {"split": "test"}, r"--split test does not apply to dataset 'a\.txt'\. Leave it out"),
        ("a.jsonl", {"revision": "v2"}, r"--dataset-revision v2 does not apply to dataset 'a\.jsonl'"),
        ("a.txt", {"text_column": "body"}, r"--text-column body does not apply to dataset 'a\.txt'"),
        ("stdlib", {"revision": "v2"}, r"--dataset-revision v2 does not apply to dataset 'stdlib'"),
        ("stdlib", {"split": "test"}, r"has no split 'test'\. Choose one of train, heldout"),
        ("random", {"split": "test"}, r"--split test does not apply to dataset 'random'"),
        ("random", {"text_column": "body"}, r"--text-column body does not apply to dataset 'random'"),
    ],
)
def test_an_option_that_does_not_apply_is_refused(name, options, message):
    with pytest.raises(SelfRepairError, match=message):
        open_source(name, **options)


def test_of_text_and_tokens_only_one_is_the_prompt(tmp_path):
    ids = [4, 5, 6]
    for beside in ({}, {"text": None}):
        assert list(open_source(str(jsonl(tmp_path / "a.jsonl", {"tokens": ids, **beside}))).documents) == [
            TokenRow(0, (4, 5, 6))
        ]
    for beside in ({}, {"tokens": None}, {"tokens": ["return", "first"]}, {"tokens": 2}):
        assert list(open_source(str(jsonl(tmp_path / "a.jsonl", {"text": TEXT, **beside}))).documents) == [
            Document(0, TEXT)
        ]
    with pytest.raises(SelfRepairError, match=r"row 1 has both `text` and `tokens`\. Leave one of them out"):
        prompts_of(jsonl(tmp_path / "a.jsonl", {"text": TEXT, "tokens": ids}))
    for wrong in ("4 5 6", [4, "5"], [4.0], {"ids": ids}, ["4"]):
        with pytest.raises(SelfRepairError, match=r"row 1: `tokens` must be a list of whole numbers, such as .* not "):
            prompts_of(jsonl(tmp_path / "a.jsonl", {"tokens": wrong}))
    with pytest.raises(SelfRepairError, match=r"prompts\[0\] has both `text` and `tokens`"), errors_in("python"):
        given_prompts([{"text": TEXT, "tokens": ids}], TOKENIZER)
    assert given_prompts([{"text": None, "tokens": ids}], None) == [TokenRow(0, (4, 5, 6))]


def zstd(content: bytes) -> bytes:
    return pa.Codec("zstd").compress(content, asbytes=True)


@pytest.mark.parametrize("compressed", [gzip.compress, zstd])
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
def test_compressed_text_is_read_whatever_it_is_called(tmp_path, compressed, name):
    rows = "".join(json.dumps({"text": f"{TEXT} {n} \u00e9"}) + "\n" for n in range(3000)).encode()
    (tmp_path / name).write_bytes(compressed(rows))
    found = list(open_source(str(tmp_path / name)).documents)
    assert (len(found), found[2999]) == (3000, Document(2999, f"{TEXT} 2999 \u00e9"))
    plain = tmp_path / "a.txt.gz"
    plain.write_bytes(compressed(TEXT.encode()))
    assert list(open_source(str(plain)).documents) == [Document(0, TEXT)]
    (tmp_path / name).write_bytes(compressed(rows)[:-200])
    with pytest.raises(SelfRepairError, match=r"cannot be read: .*Write it again"):
        list(open_source(str(tmp_path / name)).documents)
    (tmp_path / name).write_bytes(compressed(b"\x1f\x8b\xff"))
    with pytest.raises(SelfRepairError, match=r"is not UTF-8: byte 0x8b at offset 1, line 1\. .*Decompress it"):
        list(open_source(str(tmp_path / name)).documents)


def test_a_file_that_was_not_fetched_says_how(tmp_path):
    for name in ("a.parquet", "a.jsonl"):
        (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 978\n")
        with pytest.raises(SelfRepairError, match=rf"is a Git LFS pointer\. Fetch .* lfs pull --include {name}$"):
            open_source(str(tmp_path / name))


PIECES = [*map(str.encode, ["a", "\u00e9", "\u20ac", "\U0001f600", "\n", "\r\n", "\0"]), b"\xe2\x82", b"\x80", b"\xff"]


@given(st.lists(st.sampled_from(PIECES), max_size=12), st.integers(1, 6))
def test_the_first_wrong_byte_is_that_of_the_whole_however_it_is_read(pieces, block):
    content = b"".join(pieces)
    place = content.find(b"\0")
    try:
        content.decode()
    except UnicodeDecodeError as error:
        place = error.start if place < 0 else min(place, error.start)
    with tempfile.NamedTemporaryFile() as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset_files, "BLOCK_BYTES", block)
        file.write(content)
        file.flush()
        if place < 0:
            assert "".join(text_blocks(Path(file.name))) == content.decode().replace("\r\n", "\n")
            return
        line = content.count(b"\n", 0, place) + 1
        at = f"byte 0x{content[place]:02x} at offset {place}, line {line}\\."
        with pytest.raises(SelfRepairError, match=at):
            list(text_blocks(Path(file.name)))


def test_a_line_has_a_longest(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    path.write_text('["a"]\n["of 15 char"]\n')
    monkeypatch.setattr(dataset_files, "LONGEST_LINE", 15)
    assert list(json_lines(path)) == [["a"], ["of 15 char"]]
    monkeypatch.setattr(dataset_files, "LONGEST_LINE", 14)
    with pytest.raises(
        SelfRepairError, match=r"a\.jsonl, line 2 is longer than 14 characters\. Write one object a line"
    ):
        list(json_lines(path))


@pytest.mark.parametrize("compressed", [gzip.compress, zstd])
def test_a_line_that_only_compression_makes_small_is_not_read_whole(tmp_path, monkeypatch, compressed):
    """Three gigabytes in some megabytes at most."""
    monkeypatch.setattr(dataset_files, "LONGEST_LINE", dataset_files.LONGEST_LINE // 16)
    path = tmp_path / "a.jsonl"
    path.write_bytes(compressed(b"a" * 2**20) * 3 * 2**10)
    with pytest.raises(SelfRepairError, match=r"line 1 is longer than 4,194,304 characters"):
        list(json_lines(path))


BOMBS = {
    "rows": lambda: pa.table({"text": pa.DictionaryArray.from_arrays(pa.array([0] * 3_000_000, pa.int8()), ["a"])}),
    "values": lambda: pa.table({"tokens": pa.array([[7] * 3_000_000])}),
    "text": lambda: pa.table({"text": ["a" * 20_000_000]}),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_parquet_file_that_compression_makes_small_is_refused_by_its_footer(tmp_path, kind):
    path = tmp_path / "a.parquet"
    pq.write_table(BOMBS[kind](), path, compression="zstd", row_group_size=10**8)
    assert path.stat().st_size < 20_000
    with pytest.raises(SelfRepairError, match=r"a\.parquet \(.* takes up to 2[04]\.0 MB when it .*--row-group-gb 1$"):
        list(open_source(str(path), row_group_gb=0.01).documents)
    assert next(open_source(str(path)).documents).number == 0


def test_a_long_text_that_many_rows_of_a_parquet_file_share_is_in_memory_once(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    shared = pa.DictionaryArray.from_arrays(pa.array([0] * 256, pa.int8()), ["a" * 2_000_000])
    pq.write_table(pa.table({"text": shared}), path, compression="zstd", store_schema=False)
    before = pa.total_allocated_bytes()
    documents = open_source(str(path), row_group_gb=0.01).documents
    assert len(next(documents).text) == 2_000_000
    assert pa.total_allocated_bytes() - before < 20_000_000  # 512 MB otherwise
    monkeypatch.setattr(dataset_files, "LONGEST_LINE", 1_999_999)
    with pytest.raises(SelfRepairError, match=r"a\.parquet, row 0: `text` is longer than 1,999,999 characters"):
        next(open_source(str(path)).documents)


def test_a_long_text_that_lists_in_a_parquet_file_repeat_is_refused(tmp_path):
    shared = pa.DictionaryArray.from_arrays(pa.array([0] * 100, pa.int8()), ["a" * 200_000])
    lists = pa.ListArray.from_arrays(pa.array([0, 100]), shared)
    table = pa.table({"text": ["a"], "more": pa.StructArray.from_arrays([lists], ["of"])})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd")
    with pytest.raises(SelfRepairError, match=r"takes up to 20\.0 MB"):
        next(open_source(str(tmp_path / "a.parquet"), row_group_gb=0.01).documents)
    assert next(open_source(str(tmp_path / "a.parquet")).documents) == Document(0, "a")


def splitting_by(regex):
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Split(Regex(regex), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?")


def test_a_regular_expression_that_never_ends_is_given_up(monkeypatch, capfd):
    tokenizer = splitting_by("(a+)+$")
    assert tokenizing.encode(["a"], tokenizer) == [[0]]
    with pytest.raises(
        SelfRepairError, match=r"tokenizer failed \(PanicException: .*begins with 'aaa.*Try another data set"
    ):
        tokenizing.encode(["a" * 40 + "b"], tokenizer)
    monkeypatch.setattr(tokenizing, "LONGEST_S", 0.01)
    with pytest.raises(SelfRepairError, match=r"tokenizer took more than 0 s on 1 texts"):
        tokenizing.encode(["a" * 25 + "b"], tokenizer)
    for thread in threading.enumerate():
        if thread.name == "tokenizer":
            thread.join()
    capfd.readouterr()  # the library says on standard error that it panicked

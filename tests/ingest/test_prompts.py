"""Packing and pairing: property tests, and the errors of datasets that do not fit."""

import json
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfrepair.ingest.documents import Document
from selfrepair.ingest.pairing import NoPartnerError, pair
from selfrepair.ingest.prompts import build_prompts, pack, token_texts
from selfrepair.ingest.sources import open_source
from selfrepair.warehouse.errors import SelfRepairError
from support import tiny

TOKENIZER = tiny.tokenizer()
END = TOKENIZER.eos_token_id


@given(
    texts=st.lists(st.text(alphabet="abdeflnrst ()\n", max_size=60), max_size=12),
    seq_len=st.integers(2, 9),
)
def test_packing_keeps_every_token_in_order_and_starts_each_row_with_bos(texts, seq_len):
    rows = list(pack([Document(n, text) for n, text in enumerate(texts)], TOKENIZER, seq_len))
    joined, owners = [], []
    for number, text in enumerate(texts):
        ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
        if ids:
            joined += [*ids, END]
            owners += [number] * (len(ids) + 1)
    assert len(rows) == len(joined) // (seq_len - 1)
    for index, row in enumerate(rows):
        start = index * (seq_len - 1)
        assert row.tokens == (TOKENIZER.bos_token_id, *joined[start : start + seq_len - 1])
        assert row.document == owners[start]


@given(
    prompts=st.lists(st.tuples(st.integers(0, 4), st.sampled_from([3, 5])), min_size=2, max_size=40),
    seed=st.integers(0, 5),
)
def test_pairing_finds_another_prompt_of_another_document_where_there_is_one(prompts, seed):
    documents, lengths = [document for document, _ in prompts], [length for _, length in prompts]
    if 1 in Counter(lengths).values():
        with pytest.raises(NoPartnerError):
            pair(documents, lengths, seed)
        return
    partners = pair(documents, lengths, seed)
    assert partners == pair(documents, lengths, seed)
    for prompt, partner in enumerate(partners):
        assert partner != prompt
        assert lengths[partner] == lengths[prompt]
        others = [other for other in range(len(prompts)) if lengths[other] == lengths[prompt]]
        if any(documents[other] != documents[prompt] for other in others):
            assert documents[partner] != documents[prompt]
    for length in set(lengths):
        group = [prompt for prompt in range(len(prompts)) if lengths[prompt] == length]
        if max(Counter(documents[prompt] for prompt in group).values()) <= len(group) / 2:
            assert sorted(partners[prompt] for prompt in group) == group


def test_pairing_depends_on_the_seed():
    documents, lengths = list(range(30)), [5] * 30
    assert pair(documents, lengths, 0) != pair(documents, lengths, 1)


def prompts_of(path, **options):
    settings = {"n_prompts": 2, "seq_len": 6, "d_vocab": 61, "context": 32, "seed": 0, "resample": True} | options
    return build_prompts(open_source(str(path)), TOKENIZER, **settings)


def jsonl(path, *rows):
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_files_of_text_and_of_tokens_give_prompts(tmp_path):
    text = "return first + second " * 8
    plain = tmp_path / "a.txt"
    plain.write_text(text)
    lines = jsonl(tmp_path / "a.jsonl", {"text": text, "other": 1})
    pq.write_table(pa.table({"text": [text]}), tmp_path / "a.parquet")
    found = [prompts_of(path).prompts for path in (plain, lines, tmp_path / "a.parquet")]
    assert found[0] == found[1] == found[2]
    assert all(prompt.tokens[0] == TOKENIZER.bos_token_id and len(prompt.tokens) == 6 for prompt in found[0])


def test_rows_of_tokens_are_taken_as_they_are(tmp_path):
    path = jsonl(
        tmp_path / "a.jsonl",
        {"tokens": [7, 8, 9, 10]},
        {"tokens": [4, 5]},
        {"tokens": [6, 7]},
        {"tokens": [1, 2, 3, 4]},
    )
    found = prompts_of(path, n_prompts=4)
    assert [prompt.tokens for prompt in found.prompts] == [(4, 5), (6, 7), (7, 8, 9, 10), (1, 2, 3, 4)]
    assert [prompt.document for prompt in found.prompts] == [1, 2, 0, 3]
    assert found.partners == [1, 0, 3, 2]
    assert found.packing == "none"


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, r"is empty\. Give one with rows"),
        ([{"text": "ab"}], {}, r"gives 0 rows of 6 tokens, 2 prompts were asked for\. Use a shorter --seq-len"),
        ([{"text": "return first + second " * 2}], {"n_prompts": 99}, r"Use --prompts \d+ or a larger dataset"),
        ([{"tokens": [1, 2, 61]}] * 2, {}, r"holds token id 61; the model knows 0 to 60"),
        ([{"tokens": [1, -1]}] * 2, {}, r"holds token id -1"),
        ([{"tokens": [1] * 33}] * 2, {}, r"holds 33 tokens, the model's context is 32"),
        ([{"tokens": [1]}] * 2, {}, r"holds 1 tokens; a prompt needs 2"),
        ([{"tokens": [1.5]}] * 2, {}, r"`tokens` must be a list of whole numbers"),
        ([{"tokens": [1, 2]}, {"text": "a"}], {}, r"mixes rows of `tokens` and of `text`"),
        ([{"text": "def"}, {"tokens": [1, 2]}], {}, r"mixes rows of `text` and of `tokens`"),
        ([{"words": "a"}], {}, r"row 0 has neither `text` .* it has words\. Rename the column"),
        ([["a"]], {}, r"row 0 has neither"),
        ([{"tokens": [1, 2]}], {"n_prompts": 1}, r"prompt 0 is the only one of 2 tokens.*--ablation mean,zero"),
        ([{"text": "ab"}], {"seq_len": 33}, r"--seq-len 33 is longer than the model's context of 32"),
        ([{"text": "ab"}], {"seq_len": 1}, r"--seq-len 1 leaves no position"),
    ],
)
def test_a_dataset_that_does_not_fit_says_why_and_what_to_do(tmp_path, rows, options, message):
    with pytest.raises(SelfRepairError, match=message):
        prompts_of(jsonl(tmp_path / "a.jsonl", *rows), **options)


def test_unreadable_files_say_what_is_wrong(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\nnot json\n')
    with pytest.raises(SelfRepairError, match="line 2 is not JSON"):
        prompts_of(tmp_path / "a.jsonl")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(SelfRepairError, match=r"cannot be read.*UTF-8"):
        prompts_of(tmp_path / "b.txt")
    (tmp_path / "c.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(SelfRepairError, match=r"c\.parquet cannot be read"):
        prompts_of(tmp_path / "c.parquet")
    with pytest.raises(SelfRepairError, match=r"missing.txt does not exist"):
        prompts_of(tmp_path / "missing.txt")
    (tmp_path / "d.csv").write_text("text\n")
    with pytest.raises(SelfRepairError, match=r"is not one of \.txt, \.jsonl, \.parquet"):
        prompts_of(tmp_path / "d.csv")


def test_without_a_tokenizer_only_tokens_will_do(tmp_path):
    source = open_source(str(jsonl(tmp_path / "a.jsonl", {"text": "a"})))
    with pytest.raises(SelfRepairError, match="comes without a tokenizer"):
        build_prompts(source, None, n_prompts=1, seq_len=4, d_vocab=9, context=9, seed=0, resample=False)
    assert token_texts(None, [4, 17]) == ["<4>", "<17>"]


def test_tokens_as_text_keep_their_leading_space():
    ids = TOKENIZER("return first", add_special_tokens=False)["input_ids"]
    assert "".join(token_texts(TOKENIZER, ids)) == " return first"


def test_the_standard_library_gives_prompts_from_many_documents():
    first, again = (
        build_prompts(
            open_source("stdlib"), TOKENIZER, n_prompts=200, seq_len=64, d_vocab=61, context=64, seed=0, resample=True
        )
        for _ in range(2)
    )
    assert first == again
    assert len({prompt.document for prompt in first.prompts}) > 3
    with pytest.raises(SelfRepairError, match="no split 'test'"):
        open_source("stdlib", split="test")

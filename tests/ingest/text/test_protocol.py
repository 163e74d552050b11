"""The protocol of the paper's own code: its chunks against a naive version of them, its partners, and what it fixes."""

import random
from unittest.mock import patch

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from selfrepair.app.cli.main import main
from selfrepair.ingest.request.protocols import Settings, resolve_settings
from selfrepair.ingest.text import rushing2024
from selfrepair.ingest.text.documents import Document, DocumentCounts
from selfrepair.ingest.text.packing import Row
from selfrepair.ingest.text.rushing2024 import chunked, next_batch
from selfrepair.warehouse.errors import SelfRepairError
from support.prompts import TOKENIZER, jsonl, prompts_of, request

END = TOKENIZER.eos_token


def naive(texts: list[str], seq_len: int, batch_size: int) -> list[Row]:
    """Chunks padded with end-of-text into an array, as they were, and documents found by each token's characters.

    A token that a chunk's border cut out of a separator is of no document: -1.
    """
    rows = []
    for first in range(0, len(texts), batch_size):
        batch = texts[first : first + batch_size]
        text = END.join(batch)
        owner = [
            document for number, own in enumerate(batch) for document in [first + number] * len(own) + [-1] * len(END)
        ]
        length = (len(text) - 1) // 20 + 1
        ids, owners = [], []
        for chunk in range(20):
            begin = chunk * length
            encoded = TOKENIZER(text[begin : begin + length], add_special_tokens=False, return_offsets_mapping=True)
            ids.append(encoded["input_ids"])
            owners.append([owner[begin + start] for start, _ in encoded["offset_mapping"]])
        widest = max(map(len, ids))
        padded = np.array([chunk + [TOKENIZER.eos_token_id] * (widest - len(chunk)) for chunk in ids])
        documents = np.array([chunk + [-1] * (widest - len(chunk)) for chunk in owners])
        kept = padded.flatten() != TOKENIZER.eos_token_id
        tokens, numbers = padded.flatten()[kept], documents.flatten()[kept]
        for row in range(len(tokens) // (seq_len - 1)):
            own = slice(row * (seq_len - 1), (row + 1) * (seq_len - 1))
            rows.append(((TOKENIZER.bos_token_id, *tokens[own].tolist()), int(numbers[own][0])))
    return rows


def rows_of(texts: list[str], seq_len: int, counts: DocumentCounts | None = None) -> list[Row]:
    documents = [Document(number, text) for number, text in enumerate(texts)]
    return list(chunked(documents, TOKENIZER, seq_len, counts or DocumentCounts()))


@given(
    texts=st.lists(st.text(alphabet="abdeflnrst ()\n", max_size=60), max_size=12),
    seq_len=st.integers(2, 9),
    batch_size=st.integers(1, 5),
)
def test_chunks_are_those_of_the_naive_version(texts, seq_len, batch_size):
    with patch.object(rushing2024, "BATCH_DOCUMENTS", batch_size):
        found = rows_of(texts, seq_len)
    expected = naive(texts, seq_len, batch_size)
    assert [tokens for tokens, _ in found] == [tokens for tokens, _ in expected]
    for (_, document), (_, known) in zip(found, expected, strict=True):
        assert document == known or known == -1


def test_a_thousand_documents_are_a_batch():
    draw = random.Random(3)
    texts = [" ".join(draw.choices(["return", "first", "second", "+"], k=draw.randrange(7))) for _ in range(2300)]
    counts = DocumentCounts()
    found, expected = rows_of(texts, 7, counts), naive(texts, 7, 1000)
    assert [tokens for tokens, _ in found] == [tokens for tokens, _ in expected]
    assert found[-1][1] == expected[-1][1] > 2200
    assert counts.empty == texts.count("") > 0
    assert TOKENIZER.eos_token_id not in {token for tokens, _ in found for token in tokens[1:]}


@pytest.mark.parametrize("n_prompts", [31, 59, 60, 75])
def test_the_partner_stands_at_the_same_place_of_the_next_batch(n_prompts):
    partners = next_batch(n_prompts)
    for prompt, partner in enumerate(partners):
        assert partner != prompt
        batch, place = divmod(prompt, 30)
        if (batch + 1) * 30 + place < n_prompts:
            assert divmod(partner, 30) == (batch + 1, place)
    assert sorted(partners) == list(range(n_prompts))


def test_prompts_have_the_protocols_partners_whatever_the_seed(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", *({"text": "return first + second " * (1 + n % 5)} for n in range(90)))
    found = prompts_of(path, n_prompts=40, packing="rushing2024", seed=1)
    assert found == prompts_of(path, n_prompts=40, packing="rushing2024", seed=2)
    assert found.partners == next_batch(40)
    assert found.packing == "rushing2024"
    assert found.prompts != prompts_of(path, n_prompts=40).prompts
    with pytest.raises(
        SelfRepairError, match=r"gives \d+ rows of 6 tokens, fewer than --prompts 9999\. Use a larger dataset\."
    ):
        prompts_of(path, n_prompts=9999, packing="rushing2024")
    with pytest.raises(SelfRepairError, match=r"--seq-len 33 is longer .* --protocol rushing2024 fixes it"):
        prompts_of(path, seq_len=33, packing="rushing2024")
    with pytest.raises(SelfRepairError, match=r"--protocol rushing2024 needs text"):
        prompts_of(jsonl(tmp_path / "b.jsonl", {"tokens": [1, 2]}), packing="rushing2024")


def test_what_a_request_leaves_out_is_the_protocol_s_or_the_default():
    paper = {"protocol": "rushing2024"}
    assert resolve_settings(request()) == Settings("stdlib", 128, "packed", "resample,mean,zero")
    assert resolve_settings(request(**paper)) == Settings("NeelNanda/pile-10k", 128, "rushing2024", "resample")
    given = {"dataset": "a.jsonl", "seq_len": 64, "packing": "document", "ablation": "mean"}
    assert resolve_settings(request(**given)) == Settings("a.jsonl", 64, "document", "mean")
    same = paper | {"dataset": "a.jsonl", "seq_len": 128, "ablation": "resample"}
    assert resolve_settings(request(**same)) == Settings("a.jsonl", 128, "rushing2024", "resample")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seq_len": 64}, r"fixes --seq-len 128, but --seq-len 64 is given\. Leave one of them out"),
        ({"packing": "packed"}, r"fixes --packing rushing2024, but --packing packed is given"),
        ({"ablation": "mean,zero"}, r"fixes --ablation resample, but --ablation mean,zero is given"),
        ({"n_prompts": 30}, r"next batch of 30, and --prompts 30 has no second batch\. Use --prompts 31 or more"),
    ],
)
def test_what_contradicts_the_protocol_is_refused(options, message):
    with pytest.raises(SelfRepairError, match=message):
        resolve_settings(request(protocol="rushing2024", **options))


def test_the_command_line_says_so_too():
    words = ["ingest", "--model", "nowhere", "--protocol", "rushing2024", "--seq-len", "64"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1
    assert "--protocol rushing2024 fixes --seq-len 128, but --seq-len 64 is given." in done.output


def test_special_tokens_in_a_text_are_counted():
    counts = DocumentCounts()
    rows_of(["return first", f"a{END}b", "second"], 7, counts)
    assert (counts.with_special_tokens, counts.begun) == (1, 0)

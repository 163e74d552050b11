"""Documents to rows of tokens: packed or one a document; long ones in chunks that change no token."""

import tracemalloc
from collections import Counter
from unittest.mock import patch

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from selfrepair.ingest.models.tokenizer import Vocabulary
from selfrepair.ingest.text import tokenizing
from selfrepair.ingest.text.documents import Document, DocumentCounts
from selfrepair.ingest.text.packing import one_per_document, pack, with_partners
from selfrepair.ingest.text.prompts import PromptOptions, build_prompts
from selfrepair.ingest.text.sources import Source, open_source
from selfrepair.ingest.text.tokenizing import first_tokens, in_chunks, joined, tokenize
from selfrepair.warehouse.errors import SelfRepairError
from support import tiny
from support.prompts import TOKENIZER, jsonl, prompts_of

END = TOKENIZER.eos_token_id


def trained(training, reading=None) -> PreTrainedTokenizerFast:
    """A BPE whose words `training` (a pre-tokenizer) parts; `reading` sets up what it does with text afterwards."""
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
    bpe.pre_tokenizer = training
    alphabet = pre_tokenizers.ByteLevel.alphabet() if isinstance(training, pre_tokenizers.ByteLevel) else []
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<unk>"], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(tiny.TEXTS * 3, trainer)
    if reading is not None:
        reading(bpe)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, unk_token="<unk>")


def _as_llama(bpe):
    """No pre-tokenizer, and a space in front of every text."""
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    bpe.pre_tokenizer = None


TOKENIZERS = {
    "bytes": trained(pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "metaspace": trained(pre_tokenizers.Metaspace()),
    "llama": trained(pre_tokenizers.Metaspace(), _as_llama),
    "words": trained(pre_tokenizers.Whitespace()),
}


@given(
    texts=st.lists(st.text(alphabet="abdeflnrst ()\n", max_size=60), max_size=12),
    seq_len=st.integers(2, 9),
)
def test_packing_keeps_every_token_in_order_and_starts_each_row_with_bos(texts, seq_len):
    counts = DocumentCounts()
    rows = list(pack([Document(n, text) for n, text in enumerate(texts)], TOKENIZER, seq_len, counts))
    joined, owners = [], []
    for number, text in enumerate(texts):
        ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
        if ids:
            joined += [*ids, END]
            owners += [number] * (len(ids) + 1)
    assert len(rows) == len(joined) // (seq_len - 1)
    for index, (tokens, document) in enumerate(rows):
        start = index * (seq_len - 1)
        assert tokens == (TOKENIZER.bos_token_id, *joined[start : start + seq_len - 1])
        assert document == owners[start]
    assert counts.empty == len(texts) - len(set(owners))


@pytest.mark.parametrize("name", TOKENIZERS)
@given(
    words=st.lists(
        st.text(alphabet="aefnrst,()\n", min_size=1, max_size=6).filter(lambda word: word[0] != "\n"),
        min_size=1,
        max_size=30,
    )
)
def test_chunks_cut_at_spaces_give_the_tokens_of_the_whole(name, words):
    tokenizer, text = TOKENIZERS[name], " ".join(words)
    with patch.object(tokenizing, "CHUNK_CHARACTERS", 20), patch.object(tokenizing, "BATCH_CHARACTERS", 50):
        found = list(tokenize([Document(7, text)], tokenizer, DocumentCounts()))
    assert [token for chunk in found for token in chunk.ids] == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert [chunk.ends for chunk in found] == [False] * (len(found) - 1) + [True]
    assert len(text) <= 20 or len(found) > 1


@given(blocks=st.lists(st.text(alphabet="ab \n", max_size=30), max_size=8))
def test_chunks_are_the_text_however_it_is_read(blocks):
    text = "".join(blocks)
    with patch.object(tokenizing, "CHUNK_CHARACTERS", 9):
        found = list(in_chunks(Document(3, ""), blocks))
        assert found == list(in_chunks(Document(3, text)))
    assert "".join(chunk.text for chunk in found) == text
    assert all(0 < len(chunk.text) <= 9 for chunk in found) or found == [Document(3, "")]
    assert list(joined(found)) == [Document(3, text)]


def test_text_without_a_gap_is_cut_all_the_same():
    with patch.object(tokenizing, "CHUNK_CHARACTERS", 8):
        assert [chunk.text for chunk in in_chunks(Document(0, "abcdefghijk"))] == ["abcdefgh", "ijk"]
        assert [chunk.text for chunk in in_chunks(Document(0, "abc\nefghijk"))] == ["abc\n", "efghijk"]
        assert [chunk.text for chunk in in_chunks(Document(0, "ab\tde\n\n\nh"))] == ["ab\tde\n\n\n", "h"]


def test_of_a_huge_file_only_the_beginning_is_held(tmp_path):
    huge = tmp_path / "huge.txt"
    huge.write_text("return first + second " * 1_000_000)
    tracemalloc.start()
    try:
        found = prompts_of(huge, n_prompts=50)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found) == 50
    assert peak < huge.stat().st_size / 2


def documents(*texts):
    return Source("texts", None, None, iter([Document(n, text) for n, text in enumerate(texts)]))


def test_one_prompt_a_document_cut_and_never_padded():
    texts = ["return", "", "return first + second " * 3, "first", "second first"]
    rows = list(one_per_document([Document(n, text) for n, text in enumerate(texts)], TOKENIZER, 6, DocumentCounts()))
    assert [document for _, document in rows] == [0, 2, 3, 4]
    for tokens, document in rows:
        whole = TOKENIZER(texts[document], add_special_tokens=False)["input_ids"]
        assert tokens == (TOKENIZER.bos_token_id, *whole[:5])
    found = prompts_of(documents(*texts), n_prompts=4, packing="document", resample=False)
    assert found.packing == "document"
    assert [len(prompt.tokens) for prompt in found.prompts] == sorted(len(tokens) for tokens, _ in rows)
    assert found.notes == ("1 document skipped: no text.",)


def test_the_beginning_of_a_long_document_is_that_of_the_whole():
    texts = ["return first " * 900, "return" + " " * 4000 + "first " * 30, "\n" * 500]
    for tokenizer in TOKENIZERS.values():
        found = list(first_tokens([Document(n, text) for n, text in enumerate(texts)], tokenizer, 20, DocumentCounts()))
        whole = [ids[:20] for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
        assert [(tokens.number, tokens.ids) for tokens in found] == [(n, ids) for n, ids in enumerate(whole) if ids]


def test_resample_skips_documents_without_a_partner_and_reads_on():
    long, other_long, single = "return first + second ", "return second + first ", "first second"
    texts = documents(long, single, "return", other_long, "retunr", long)
    found = prompts_of(texts, n_prompts=4, seq_len=20, packing="document")
    assert [prompt.document for prompt in found.prompts] == [2, 4, 0, 3]
    assert found.partners == [1, 0, 3, 2]
    assert found.notes == ("1 document skipped: resample ablation needs another one of the same length.",)


def test_too_few_documents_with_a_partner_say_how_many_there_are():
    texts = ["return", "first second", "return"]
    with pytest.raises(
        SelfRepairError,
        match=r"gives 2 documents to measure, fewer than --prompts 3\. 1 document skipped: resample .* Use --prompts 2 or",
    ):
        prompts_of(documents(*texts), n_prompts=3, packing="document")
    with pytest.raises(SelfRepairError, match=r"gives 0 documents .* Use a larger dataset"):
        prompts_of(documents(*texts[:2]), packing="document")
    with pytest.raises(SelfRepairError, match=r"--prompts 1 leaves no partner .* --ablation mean,zero"):
        prompts_of(documents(*texts), n_prompts=1, packing="document")


@given(lengths=st.lists(st.integers(2, 7), max_size=30), n_rows=st.integers(2, 12))
def test_every_row_that_is_chosen_has_another_of_its_length(lengths, n_rows):
    rows = [((0,) * length, number) for number, length in enumerate(lengths)]
    unread, counts = iter(rows), DocumentCounts()
    found = list(with_partners(unread, n_rows, counts))
    assert min(Counter(len(tokens) for tokens, _ in found).values(), default=2) > 1
    assert found == sorted(found, key=lambda row: row[1])
    assert len(found) <= n_rows
    read = len(rows) - len(list(unread))
    assert len(found) + counts.without_partner == read
    if len(found) < n_rows:
        assert read == len(rows)
        # Of what was left out, nothing else fits but a pair where one place is free.
        chosen = {len(tokens) for tokens, _ in found}
        others = Counter(length for length in lengths if length not in chosen)
        assert max(others.values(), default=0) < 2 or len(found) == n_rows - 1


def test_documents_of_the_standard_library_give_one_prompt_each():
    found = prompts_of(open_source("stdlib", whole=True), n_prompts=20, packing="document")
    assert len({prompt.document for prompt in found.prompts}) == 20


def test_special_tokens_in_a_text_are_told(tmp_path):
    texts = ["<|end|>return first", "def add(first)<pad>: return<|end|>", "for name in names: print", "a tuple \u00e9"]
    rows = jsonl(tmp_path / "a.jsonl", *({"text": text} for text in texts))
    options = {"n_prompts": 4, "packing": "document", "seq_len": 30, "resample": False}
    assert prompts_of(rows, **options).notes == (
        "2 documents spell special tokens (<pad>, <|end|>), read as such. 1 of them begin with the token that begins every "
        "prompt, which is then there twice. Take them out of the text unless they are meant.",
    )
    assert "1 document spells special tokens (<|end|>)" in prompts_of(rows, resample=False, n_prompts=1).notes[0]
    plain = jsonl(tmp_path / "b.jsonl", *({"text": text} for text in texts[2:]))
    assert prompts_of(plain, **options | {"n_prompts": 2}).notes == ()
    answers = jsonl(tmp_path / "c.jsonl", *({"text": text, "answer": " "} for text in (texts[0], "a")))
    assert "1 document spells special tokens (<|end|>)" in prompts_of(answers, resample=False).notes[0]


def adding(before: str, after: str, *, always: bool = False) -> PreTrainedTokenizerFast:
    """The tiny tokenizer, which adds `before` and `after` to every text; `always` also where it is told not to."""

    class Stubborn(PreTrainedTokenizerFast):
        def __call__(self, *texts, add_special_tokens=True, **options):
            return super().__call__(*texts, add_special_tokens=True, **options)

    made = (Stubborn if always else PreTrainedTokenizerFast)(
        tokenizer_object=tokenizers.Tokenizer.from_str(TOKENIZER.backend_tokenizer.to_str()),
        bos_token="<|end|>",
        eos_token="<pad>",
        unk_token="<unk>",
    )
    made.backend_tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{before} $A {after}".strip(), special_tokens=[("<|end|>", 0), ("<pad>", 1)]
    )
    return made


@pytest.mark.parametrize(("before", "after"), [("<|end|>", ""), ("", "<pad>"), ("<|end|>", "<pad>"), ("", "")])
@pytest.mark.parametrize("always", [False, True])
def test_what_a_tokenizer_adds_by_itself_is_not_there_twice_and_told(tmp_path, before, after, always):
    texts = jsonl(tmp_path / "a.jsonl", *({"text": text} for text in tiny.TEXTS))

    def prompts(tokenizer):
        vocabulary = Vocabulary(tokenizer, d_vocab=len(tokenizer), context=32)
        return build_prompts(open_source(str(texts)), vocabulary, PromptOptions(n_prompts=4, seq_len=12))

    found = prompts(adding(before, after, always=always))
    assert found.prompts == prompts(adding("", "")).prompts
    assert all(prompt.tokens[0] == 0 and 0 not in prompt.tokens[1:] for prompt in found.prompts)
    added = " and ".join(f"{name} {where}" for name, where in ((before, "before"), (after, "after")) if name)
    told = f"The tokenizer adds {added} a text by itself. Here nothing is added twice: each prompt begins with <|end|> once."
    assert [note for note in found.notes if "by itself" in note] == ([told] if added else [])

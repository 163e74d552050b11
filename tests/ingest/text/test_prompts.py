"""From a dataset to the prompts of a run: partners, rows that are tokens already, and datasets that do not fit."""

import itertools
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPTSw3Tokenizer

from selfrepair.ingest.models.tokenizer import Vocabulary
from selfrepair.ingest.text.documents import Document
from selfrepair.ingest.text.pairing import NoPartnerError, pair
from selfrepair.ingest.text.prompts import Prompt, PromptOptions, PromptSet, build_prompts
from selfrepair.ingest.text.sources import Source, open_source, random_rows
from selfrepair.ingest.text.tokenizing import token_texts
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.schema import ANSWER, LONGEST_PROMPT, NEXT_TOKEN
from support import tiny
from support.prompts import OPTIONS, TOKENIZER, jsonl, prompts_of


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
        ([{"text": "ab"}], {}, r"gives 0 rows of 6 tokens, fewer than --prompts 2\. Use a shorter --seq-len"),
        ([{"text": "return first + second " * 2}], {"n_prompts": 99}, r"Use --prompts \d+ or a larger dataset"),
        ([{"tokens": [1, 2, 61]}] * 2, {}, r"document 1 holds token id 61; the model has 0 to 60"),
        ([{"tokens": [1, -1]}] * 2, {}, r"holds token id -1"),
        ([{"tokens": [1] * 33}] * 2, {}, r"document 1 holds 33 tokens; the model's context is 32"),
        ([{"tokens": [1]}] * 2, {}, r"row 1 holds 1 tokens; a prompt needs 2"),
        ([{"tokens": [1.5]}] * 2, {}, r"row 1: `tokens` must be a list of whole numbers"),
        ([{"tokens": [1, 2]}, {"text": "a"}], {}, r"mixes rows of `tokens` and of `text`"),
        ([{"text": "def"}, {"tokens": [1, 2]}], {}, r"mixes rows of `text` and of `tokens`"),
        ([{"words": "a"}], {}, r"row 1 has neither `text` .* it has words\. Use --text-column words\."),
        ([["a"]], {}, r"row 1 is not an object with columns: \['a'\]\. Write \{\"text\""),
        ([{"tokens": [1, 2]}], {"n_prompts": 1}, r"row 1 is the only one of 2 tokens.*--ablation mean,zero"),
        ([{"text": "ab"}], {"seq_len": 33}, r"--seq-len 33 is longer than the model's context of 32"),
        ([{"text": "ab"}], {"seq_len": 1}, r"--seq-len 1 leaves no position"),
        ([{"tokens": [1, 2]}] * 2, {"packing": "document"}, r"which are never packed; --packing document needs text"),
        ([{"text": ""}] * 3, {}, r"gives 0 rows of 6 tokens.* --prompts 2\. 3 documents skipped: no text\."),
    ],
)
def test_a_dataset_that_does_not_fit_says_why_and_what_to_do(tmp_path, rows, options, message):
    with pytest.raises(SelfRepairError, match=message):
        prompts_of(jsonl(tmp_path / "a.jsonl", *rows), **options)


def test_prompts_that_their_partner_leaves_as_they_are_are_noted(tmp_path):
    rows = [{"tokens": [0, 5, 9, last]} for last in (1, 2)] + [{"tokens": [0, token, 3, 4]} for token in (7, 8)]
    found = prompts_of(jsonl(tmp_path / "some.jsonl", *rows), n_prompts=4)
    same = [row for row, partner in enumerate(found.partners) if rows[row]["tokens"][:3] == rows[partner]["tokens"][:3]]
    assert len(same) == 1
    (note,) = found.notes
    assert note.startswith("1 of 4 prompts are the same as their partner in resample ablation but for the last token")
    assert prompts_of(jsonl(tmp_path / "some.jsonl", *rows), n_prompts=4, resample=False).notes == ()
    with pytest.raises(
        SelfRepairError, match=r"each of the 2 prompts is the same .* change nothing.*--ablation mean,zero"
    ):
        prompts_of(jsonl(tmp_path / "all.jsonl", *rows[:2]), n_prompts=2)


def test_without_a_tokenizer_only_tokens_will_do(tmp_path):
    source = open_source(str(jsonl(tmp_path / "a.jsonl", {"text": "a"})))
    with pytest.raises(SelfRepairError, match=r"has no tokenizer\. .* hold `tokens`, or `random`"):
        build_prompts(source, Vocabulary(None, 61, 32), OPTIONS)
    assert token_texts(None, [4, 17]) == ["<4>", "<17>"]


def test_tokens_as_text_keep_their_leading_space():
    ids = TOKENIZER("return first", add_special_tokens=False)["input_ids"]
    assert "".join(token_texts(TOKENIZER, ids)) == " return first"


def test_the_standard_library_gives_prompts_from_many_documents():
    first, again = (
        build_prompts(open_source("stdlib"), Vocabulary(TOKENIZER, 61, 64), PromptOptions(n_prompts=200, seq_len=64))
        for _ in range(2)
    )
    assert first == again
    assert len({prompt.document for prompt in first.prompts}) > 3
    with pytest.raises(SelfRepairError, match="no split 'test'"):
        open_source("stdlib", split="test")


def drawn(tokenizer=TOKENIZER, *, n_prompts=40, seed=0, seq_len=6):
    vocabulary = Vocabulary(tokenizer, d_vocab=70, context=32)
    source = replace(open_source("random"), documents=random_rows(vocabulary, seq_len=seq_len, seed=seed))
    return build_prompts(source, vocabulary, PromptOptions(n_prompts=n_prompts, seq_len=seq_len, seed=seed))


def test_random_tokens_are_a_dataset_that_needs_no_text():
    found = drawn()
    assert found == drawn()
    assert found.prompts[:10] == drawn(n_prompts=10).prompts
    assert found.prompts != drawn(seed=1).prompts
    assert found.packing == "none"
    assert {len(prompt.tokens) for prompt in found.prompts} == {6}
    assert {prompt.tokens[0] for prompt in found.prompts} == {TOKENIZER.bos_token_id}
    drawn_after_bos = {token for prompt in found.prompts for token in prompt.tokens[1:]}
    assert max(drawn_after_bos) < len(TOKENIZER) == 61  # the model's 70 are padding beyond that
    assert len({prompt.document for prompt in found.prompts}) == 40


def test_random_tokens_are_equally_likely_and_need_no_tokenizer():
    found = drawn(None, n_prompts=4000)
    counts = Counter(token for prompt in found.prompts for token in prompt.tokens)
    expected = 4000 * 6 / 70
    assert set(counts) == set(range(70))
    # Chi-square with 69 degrees of freedom: mean 69, standard deviation 11.7.
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 69 + 5 * 11.7
    with pytest.raises(SelfRepairError, match=r"--seq-len 33 is longer than the model's context of 32 tokens"):
        drawn(seq_len=33)


def test_no_more_is_read_than_is_needed():
    endless = Source("endless", None, None, (Document(n, "return first") for n in itertools.count()))
    assert len(prompts_of(endless, n_prompts=20)) == 20
    assert next(endless.documents).number < 2000


def test_a_prompt_whose_positions_no_file_can_keep_is_refused_at_once(tmp_path):
    """Positions above 32,767 would wrap, and the load refuse them after hours of measuring."""
    vocabulary = Vocabulary(None, d_vocab=61, context=None)
    for length in (LONGEST_PROMPT, LONGEST_PROMPT + 1):
        row = {"tokens": [5] * length}
        source = open_source(str(jsonl(tmp_path / f"{length}.jsonl", row)))
        options = PromptOptions(n_prompts=1, seq_len=6, resample=False)
        if length == LONGEST_PROMPT:
            assert build_prompts(source, vocabulary, options).seq_len == length
        else:
            with pytest.raises(SelfRepairError, match=r"document 1 holds 32770 tokens; a warehouse takes 32769"):
                build_prompts(source, vocabulary, options)


@pytest.mark.parametrize(("logit_of", "clusters"), [(NEXT_TOKEN, [4, 4, 6, 7, 4]), (ANSWER, [4, 5, 6, 7, 4])])
def test_a_prompt_whose_rows_are_an_earlier_ones_counts_with_it(logit_of, clusters):
    """Of four rows, three are the same from the first four tokens on; of an answer, only the whole prompt is."""
    rows = [(1, 2, 3, 4, 5), (1, 2, 3, 4, 9), (1, 2, 3, 9, 9), (8, 2, 3, 4, 5), (1, 2, 3, 4, 5)]
    prompts = [Prompt(tokens, document) for document, tokens in enumerate(rows, start=4)]
    assert PromptSet(prompts, "packing", None, logit_of=logit_of).clusters() == clusters


def test_ids_beyond_a_tokenizers_pieces_have_a_text(tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(tiny.TEXTS * 3),
        model_prefix=str(tmp_path / "spiece"),
        vocab_size=40,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    slow = GPTSw3Tokenizer(str(tmp_path / "spiece.model"))
    assert token_texts(slow, [5, 447]) == [slow.convert_ids_to_tokens(5).replace("\u2581", " "), "<447>"]
    assert token_texts(tiny.tokenizer(), [61]) == token_texts(None, [61]) == ["<61>"]

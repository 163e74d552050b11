"""Tasks: rows whose answers are single tokens that are right, balanced, of few lengths, for tokenizers of several kinds."""

import re
import statistics
from collections import Counter

import pytest
import tokenizers
import torch
from click.testing import CliRunner
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from selfrepair.app.cli.main import main
from selfrepair.ingest.models.demo import DEMO_FOLDER
from selfrepair.ingest.models.loading import tokenizer_of
from selfrepair.ingest.text.tasks import agreement, arithmetic, greater_than, induction, ioi, mcqa
from selfrepair.ingest.text.tasks.vocabulary import Vocabulary
from selfrepair.ingest.text.tokenizing import encode
from selfrepair.warehouse.errors import SelfRepairError

N = 48
TASKS = {
    "ioi": ioi.ioi_rows,
    "induction": induction.induction_rows,
    "greater-than": greater_than.greater_than_rows,
    "arithmetic": arithmetic.arithmetic_rows,
    "mcqa": mcqa.mcqa_rows,
    "agreement": agreement.agreement_rows,
}
WORDS = " ".join(
    (
        *(ioi.NAMES, *ioi.PLACES, *ioi.THINGS, *greater_than.EVENTS, "the year"),
        *(agreement.NOUNS, *(verb for pair in agreement.VERBS for verb in pair), *mcqa.KINDS.values(), *mcqa.LETTERS),
    )
)


def trained(digits: str) -> PreTrainedTokenizerFast:
    """A tokenizer with the tasks' words as tokens; how it cuts digits: by `pairs`, `triples` or one by one (`single`)."""
    bpe = tokenizers.Tokenizer(models.BPE())
    cut = {
        "pairs": pre_tokenizers.Split(tokenizers.Regex(r" ?\d{1,2}"), "isolated"),
        "triples": pre_tokenizers.Split(tokenizers.Regex(r"\d{1,3}"), "isolated"),
        "single": pre_tokenizers.Digits(individual_digits=True),
    }[digits]
    bpe.pre_tokenizer = pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=6000,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    numbers = " ".join(f" {n} +{n}" for n in range(1000)) if digits != "single" else "0 1 2"
    bpe.train_from_iterator([f"so {' '.join(WORDS.split())}"] * 3 + [numbers] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<|end|>", eos_token="<|end|>")


@pytest.fixture(scope="module", params=["pairs", "triples", "single"])
def vocabulary(request) -> Vocabulary:
    return Vocabulary(trained(request.param), request.param)


@pytest.fixture(scope="module", params=list(TASKS))
def rows(request, vocabulary) -> tuple[str, list[dict]]:
    return request.param, list(TASKS[request.param](vocabulary, N, 0))


def ids(vocabulary: Vocabulary, row: dict) -> list[int]:
    return row["tokens"] if "tokens" in row else encode([row["text"]], vocabulary.tokenizer)[0]


def test_answers_and_foils_are_one_token_after_the_text_and_every_length_has_partners(vocabulary, rows):
    task, found = rows
    assert len({str(row.get("text", row.get("tokens"))) for row in found}) == N
    lengths = Counter(len(ids(vocabulary, row)) for row in found)
    assert min(lengths.values()) > 1, lengths
    for row in found:
        assert row["answer"] != row["foil"]
        for word in (row["answer"], row["foil"]):
            if task != "induction":
                (whole,) = encode([row["text"] + word], vocabulary.tokenizer)
                assert whole[:-1] == ids(vocabulary, row), (row, word)


def test_answers_are_right_and_foils_wrong(rows):
    task, found = rows
    for row in found:
        answer, foil = row["answer"], row["foil"]
        if task == "ioi":
            assert row["text"].count(foil) == 2 * row["text"].count(answer) == 2
        elif task == "induction":
            asked = row["tokens"][-1]
            assert [after for at, after in zip(row["tokens"], row["tokens"][1:], strict=False) if at == asked] == [
                answer
            ]
            assert foil in row["tokens"]
        elif task == "greater-than":
            begin, end = re.search(r"the year (\d+).*the year ?(\d*)$", row["text"]).groups()
            assert len(begin) == len(end + answer.strip()) == len(end + foil.strip()) == 4
            assert int(end + foil) < int(begin) < int(end + answer)
        elif task == "arithmetic":
            *shots, question = row["text"].replace(" ", "").split("\n")
            assert all(eval(shot.replace("=", "==")) for shot in shots)
            assert eval(question[:-1]) == int(answer) != int(foil)
        elif task == "mcqa":
            kind = re.search("which of these is (.*)\\?", row["text"], re.IGNORECASE)[1]
            options = dict(re.findall(r"^([A-D])\. (.*)$", row["text"], re.MULTILINE))
            assert [letter for letter, word in options.items() if word in mcqa.KINDS[kind].split()] == [answer.strip()]
            assert foil.strip() in options
        else:
            subject, _ = re.findall(r"[Tt]he (\w+)", row["text"])
            many = agreement.NOUNS.split().index(subject) % 2 == 1
            assert (foil.strip(), answer.strip())[:: 1 if many else -1] in agreement.VERBS


def test_what_is_balanced(rows):
    task, found = rows
    if task == "mcqa":
        assert set(Counter(row["answer"] for row in found).values()) == {N // 4}
    elif task == "agreement":
        many = {pair[1] for pair in agreement.VERBS}
        assert sum(row["answer"].strip() in many for row in found) == N // 2
    elif task == "induction":
        assert len({len(row["tokens"]) for row in found}) == induction.LENGTH // 2


@pytest.mark.parametrize("task", list(TASKS))
def test_a_seed_decides_the_task(task):
    vocabulary = Vocabulary(trained("pairs"), "pairs")
    first, again, other = (list(TASKS[task](vocabulary, 8, seed)) for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("ioi", "0 of 74 names are single tokens, and it needs 2 (several tokens: Adam, Alan,"),
        ("greater-than", "0 of 10 events are single tokens, and it needs 1 (several tokens: war, project,"),
        ("mcqa", "words for an animal are single tokens, and it needs 2 (several tokens: horse, dog,"),
        ("agreement", "1 of 52 nouns are single tokens, and it needs 4 (several tokens: book, books,"),
    ],
)
def test_a_vocabulary_that_cannot_carry_a_task_is_told_which_words_are_missing(task, said):
    vocabulary = Vocabulary(tokenizer_of("demo", None), "demo")
    with pytest.raises(SelfRepairError, match="the vocabulary of 'demo' cannot carry the task") as error:
        list(TASKS[task](vocabulary, 8, 0))
    assert said in str(error.value)


def test_more_rows_than_the_words_make_are_refused():
    vocabulary = Vocabulary(trained("single"), "single")
    with pytest.raises(
        SelfRepairError, match=r"too few single-token words for 2,000 different prompts. Use --n 1\d\d\d\."
    ):
        list(ioi.ioi_rows(vocabulary, 2000, 0, names=["Mary", "John"]))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "has no names in it"),
        (b"\xff\xfe\x00", "cannot be read as lines of UTF-8"),
        (b"Xqzv\nYqzv\n", "0 of 2 names"),
    ],
)
def test_names_of_one_s_own_that_do_not_do(tmp_path, content, said):
    (tmp_path / "names.txt").write_bytes(content)
    words = ["prompts", "ioi", "--model", "demo", "--names", tmp_path / "names.txt", "-o", tmp_path / "o.jsonl"]
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 1
    assert said in result.output
    assert not (tmp_path / "o.jsonl").exists()


def test_the_bundled_model_does_induction():
    model = AutoModelForCausalLM.from_pretrained(DEMO_FOLDER, dtype=torch.float32).eval()
    rows = list(induction.induction_rows(Vocabulary(tokenizer_of("demo", None), "demo"), 240, 0))
    found = []
    for length in {len(row["tokens"]) for row in rows}:
        same = [row for row in rows if len(row["tokens"]) == length]
        with torch.no_grad():
            logits = model(torch.tensor([row["tokens"] for row in same])).logits[:, -1]
        found += [float(of[row["answer"]] - of[row["foil"]]) for of, row in zip(logits, same, strict=True)]
    assert statistics.mean(found) > 4 * statistics.stdev(found) / len(found) ** 0.5

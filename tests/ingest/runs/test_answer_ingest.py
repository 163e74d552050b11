"""Prompts with an answer and a foil, as a user gives them: from a file to the warehouse, and what is refused on the way."""

import json
from pathlib import Path

import duckdb
import pytest
import tokenizers
from click.testing import CliRunner
from transformers import AutoModelForCausalLM, GPT2Config, PreTrainedTokenizerFast

from selfrepair.app.cli.main import main
from selfrepair.ingest.text.tasks.ioi import NAMES, PLACES, TEMPLATES, THINGS
from selfrepair.warehouse.verify.verification import verify

LAYERS, HEADS, PROMPTS = 2, 3, 8


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A random GPT-2 whose tokenizer has the words of the task as tokens, but for those beginning with W."""
    folder = tmp_path_factory.mktemp("model") / "small"
    words = [word for word in (*NAMES.split(), *PLACES, *THINGS) if not word.startswith("W")]
    texts = [" ".join(["so", *words])] * 3 + [*TEMPLATES]
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=1200, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<|end|>", eos_token="<|end|>")
    tokenizer.save_pretrained(folder)
    config = GPT2Config(vocab_size=len(tokenizer), n_layer=LAYERS, n_embd=24, n_head=HEADS, n_positions=48)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def call(*words: object):
    return CliRunner().invoke(main, [str(word) for word in words])


def ingest(model: Path, rows: list[dict] | Path, db: Path, *more: object):
    path = rows
    if isinstance(rows, list):
        path = db.with_suffix(".jsonl")
        path.write_text("\n".join(map(json.dumps, rows)))
    options = ("--prompts", len(path.read_text().splitlines()), "--device", "cpu", "--db", db)
    return call("ingest", "--model", model, "--dataset", path, *options, *more)


@pytest.fixture(scope="module")
def task(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("task") / "ioi.jsonl"
    result = call("prompts", "ioi", "--n", PROMPTS, "--model", model, "-o", path)
    assert result.exit_code == 0, result.output
    assert result.output == (
        f"{PROMPTS} prompts in {path}. "
        f"Measure them: selfrepair ingest --model {model} --dataset {path} --prompts {PROMPTS}\n"
    )
    return path


@pytest.fixture(scope="module")
def measured(model, task, tmp_path_factory) -> Path:
    db = tmp_path_factory.mktemp("measured") / "w.duckdb"
    result = ingest(model, task, db, "--mechanisms")
    assert result.exit_code == 0, result.output
    return db


def test_the_task_is_balanced_and_names_are_single_tokens(model, task):
    rows = [json.loads(line) for line in task.read_text().splitlines()]
    assert len({row["text"] for row in rows}) == PROMPTS
    begins = [row["text"].split()[0] for row in rows]
    assert {begin: begins.count(begin) for begin in set(begins)} == {"When": 2, "After": 2, "While": 2, "As": 2}
    given_first = 0
    for row in rows:
        receiver, giver = row["answer"], row["foil"]
        assert receiver != giver
        assert row["text"].count(giver) == 2 * row["text"].count(receiver) == 2
        assert not {receiver.strip(), giver.strip()} & {"Walter", "William"}  # which are several tokens
        given_first += row["text"].index(giver) < row["text"].index(receiver)
    assert given_first == PROMPTS / 2


def test_a_seed_decides_the_task(model, task, tmp_path):
    for seed, same in ((0, True), (1, False)):
        path = tmp_path / f"{seed}.jsonl"
        call("prompts", "ioi", "--n", PROMPTS, "--model", model, "--seed", seed, "-o", path)
        assert (path.read_text() == task.read_text()) is same


@pytest.mark.parametrize(
    ("name", "said"), [("ioi.txt", "does not end in .jsonl"), ("there.jsonl", "exists and is not overwritten")]
)
def test_a_task_is_written_where_it_can_be_measured_and_nothing_is_lost(model, tmp_path, name, said):
    (tmp_path / "there.jsonl").write_text("mine")
    result = call("prompts", "ioi", "--model", model, "-o", tmp_path / name)
    assert result.exit_code == 1
    assert said in result.output
    assert (tmp_path / "there.jsonl").read_text() == "mine"


@pytest.mark.slow
def test_another_column_s_answers_are_no_answers(model, tmp_path):
    rows = [{"question": TEXT * 2, "answer": n} for n in range(2)]
    result = ingest(model, rows, tmp_path / "w.duckdb", "--text-column", "question", "--seq-len", "8", "--layers", "1")
    assert result.exit_code == 0, result.output
    with duckdb.connect(str(tmp_path / "w.duckdb"), read_only=True) as con:
        assert con.execute("SELECT logit_of FROM runs").fetchall() == [("next_token",)]


def test_every_prompt_is_measured_once_at_its_end(measured, task):
    rows = [json.loads(line) for line in task.read_text().splitlines()]
    with duckdb.connect(str(measured), read_only=True) as con:
        assert con.execute("SELECT logit_of, n_measurements FROM runs").fetchall() == [
            ("answer_minus_foil", PROMPTS * LAYERS * HEADS * 3)
        ]
        found = con.execute(
            "SELECT document_id, pos, len(token_ids), target, foil, text FROM tokens JOIN prompts USING (run_id, prompt_id)"
        ).fetchall()
        assert len(found) == PROMPTS
        for document, pos, n_tokens, target, foil, text in found:
            row = rows[document]
            assert (target, foil, pos) == (row["answer"], row["foil"], n_tokens - 2)
            assert text.endswith(row["text"] + row["answer"])
        assert con.execute(
            "SELECT DISTINCT pos - len(token_ids) FROM measurements JOIN prompts USING (prompt_id)"
        ).fetchall() == [(-2,)]


def test_the_warehouse_holds_together_with_all_mechanisms(measured):
    broken = [check for check in verify(measured) if not check.ok]
    assert broken == []
    with duckdb.connect(str(measured), read_only=True) as con:
        for table in ("edge_sums", "neuron_changes", "logit_lens", "logprob_changes", "self_repression_sums"):
            assert con.execute(f"SELECT count(*) > 0 FROM {table}").fetchone() == (True,), table
        # no row is at position 0, and so the top without it is the same
        assert con.execute("SELECT DISTINCT in_top2, in_top2_nobos FROM neuron_changes").fetchall() == [(True, True)]
        sums = "SELECT * EXCLUDE (population) FROM neuron_sums WHERE population = '{}'"
        top2, nobos = (sorted(con.execute(sums.format(name)).fetchall()) for name in ("top2", "top2_nobos"))
        assert top2 == nobos
        views = con.execute("SELECT DISTINCT logit_of, n_rows FROM head_repair WHERE population = 'all'").fetchall()
        assert views == [("answer_minus_foil", PROMPTS)]


def test_the_clean_logit_is_the_difference_to_the_foil(measured, model):
    import torch
    from transformers import AutoModelForCausalLM as Auto

    reference = Auto.from_pretrained(model).eval()
    with duckdb.connect(str(measured), read_only=True) as con:
        found = con.execute(
            "SELECT token_ids, target_id, foil_id, clean_logit FROM tokens JOIN prompts USING (run_id, prompt_id)"
        ).fetchall()
    for tokens, target, foil, clean in found:
        with torch.no_grad():
            logits = reference(torch.tensor([tokens[:-1]])).logits[0, -1]
        assert clean == pytest.approx(float(logits[target] - logits[foil]), abs=2e-4)


@pytest.mark.slow
def test_answers_alone_and_token_ids(model, tmp_path):
    db = tmp_path / "w.duckdb"
    rows = [{"tokens": [0, 40 + n, 50], "answer": 60 + n} for n in range(3)]
    assert ingest(model, rows, db, "--ablation", "resample,mean").exit_code == 0
    with duckdb.connect(str(db), read_only=True) as con:
        assert con.execute("SELECT logit_of FROM runs").fetchall() == [("answer",)]
        assert con.execute("SELECT pos, target_id, foil_id FROM tokens ORDER BY prompt_id").fetchall() == [
            (2, 60, None),
            (2, 61, None),
            (2, 62, None),
        ]


TEXT = "When Mary and John met near the park, John handed a book to"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"text": TEXT, "answer": " Walter", "foil": " John"},
            "row 2: answer ' Walter' is not one token after its text",
        ),
        ({"text": TEXT, "answer": "Mary", "foil": " John"}, "Try a space in front of it. Choose another word"),
        ({"text": TEXT, "answer": " Mary", "foil": " Mary"}, "row 2: answer and foil are the same token"),
        ({"text": TEXT, "answer": " Mary"}, "row 2 has no foil, and the rows before it have one"),
        ({"text": TEXT, "foil": " Mary"}, "row 2: `answer` is None, not a word. Give one, or rename the columns"),
        ({"text": TEXT, "answer": 3, "foil": " Mary"}, "row 2: `answer` is 3, not a word"),
        ({"tokens": [0, 5], "answer": " Mary", "foil": 4}, "row 2: `answer` is ' Mary', not a token id"),
        ({"tokens": [0, 5], "answer": 99999, "foil": 4}, "holds token id 99999; the model has 0 to"),
        ({"tokens": [0, 5], "answer": 4, "foil": 99999}, "holds token id 99999; the model has 0 to"),
        ({"tokens": [], "answer": 5, "foil": 6}, "row 2: `tokens` is empty: nothing comes before the answer"),
        ({"text": TEXT}, "mixes rows of `answer` and of `text`. Split it into two files."),
    ],
    ids=[
        *("several-tokens", "no-space", "same", "foil-missing", "answer-missing", "number", "word", "id", "foil-id"),
        *("empty", "mixed"),
    ],
)
def test_what_cannot_be_measured_is_refused(model, tmp_path, row, said):
    good = {"text": TEXT, "answer": " Mary", "foil": " John"}
    result = ingest(model, [good, row], tmp_path / "w.duckdb")
    assert result.exit_code == 1
    assert said in result.output
    assert "Traceback" not in result.output


def test_a_tokenizer_that_knows_no_names_is_refused(tmp_path):
    result = call("prompts", "ioi", "--model", "demo", "-o", tmp_path / "ioi.jsonl")
    assert result.exit_code == 1
    assert "the vocabulary of 'demo' cannot carry the task: 0 of 74 names" in result.output
    assert not (tmp_path / "ioi.jsonl").exists()

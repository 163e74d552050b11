"""Each rule sees its own kind of corruption, and nothing else does harm to a sound warehouse."""

import contextlib
import hashlib
from dataclasses import replace

import duckdb
import pytest

from selfrepair.warehouse.database.connection import open_writer
from selfrepair.warehouse.verify.rules import rules
from selfrepair.warehouse.verify.verification import verify
from support.loaded import load_rows as load
from support.loaded import loaded

CORRUPTIONS = {
    "each unit has the rows its ledger entry states": "DELETE FROM measurements WHERE prompt_id = 4 AND pos = 1 AND layer = 0",
    "each prompt is in a unit": "DELETE FROM units WHERE unit = 1",
    "runs with all their units have all their rows": "UPDATE runs SET n_measurements = n_measurements + 1",
    "run status and errors follow from what is loaded": "UPDATE runs SET status = 'incomplete'",
    "no row appears twice": "INSERT INTO measurements FROM measurements WHERE prompt_id = 2 LIMIT 1",
    "no model appears twice": "INSERT INTO models SELECT * REPLACE (9 AS model_id) FROM models",
    "no dataset appears twice": "INSERT INTO datasets SELECT * REPLACE (9 AS dataset_id) FROM datasets",
    "runs have a model": "DELETE FROM models",
    "runs have a dataset": "DELETE FROM datasets",
    "units have a run": "INSERT INTO units SELECT * REPLACE (7 AS run_id) FROM units",
    "prompts have a run": "INSERT INTO prompts SELECT * REPLACE (7 AS run_id) FROM prompts",
    "tokens have a prompt": "INSERT INTO tokens SELECT * REPLACE (77 AS prompt_id) FROM tokens WHERE prompt_id = 1",
    "cross-checks have a prompt": "UPDATE crosschecks SET prompt_id = 77 WHERE prompt_id = 0",
    "measurements have a token": "UPDATE measurements SET pos = 4 WHERE prompt_id = 3 AND pos = 3",
    "measured heads and ablations match the run": "UPDATE measurements SET head = 7 WHERE head = 3 AND layer = 0",
    "tokens and targets match the prompt": "UPDATE tokens SET target_id = -1 WHERE prompt_id = 5 AND pos = 2",
    "each prompt has all its tokens": "DELETE FROM tokens WHERE prompt_id = 5 AND pos = 3",
    "resample partners are other prompts of the run": "UPDATE prompts SET partner_id = 6",
    "whole runs have the prompts of their dataset": "UPDATE datasets SET fingerprint = sha256('of other prompts')",
    "effects are finite": """
        CREATE OR REPLACE TABLE measurements AS
        SELECT * REPLACE (if(prompt_id = 1 AND pos = 2 AND layer = 1, 'nan', ln_scale_ratio) AS ln_scale_ratio)
        FROM measurements
    """,
    "clean predictions are finite": "UPDATE tokens SET clean_entropy = 'inf' WHERE prompt_id = 1 AND pos = 2",
    "direct effect is the same under every ablation": """
        UPDATE measurements
        SET direct_effect = direct_effect + 0.0001
        WHERE prompt_id = 1 AND pos = 2 AND layer = 1 AND head = 0 AND ablation = 'mean'
    """,
    "the identity held to 0.001 logits when measured, or to the same share of large effects": """
        UPDATE units SET identity_error_max = 0.0011 WHERE unit = 0
    """,
    "the identity holds in the stored rows": """
        UPDATE measurements SET repair_mlp = repair_mlp + 0.0014 WHERE prompt_id = 1 AND pos = 2 AND layer = 1
    """,
    "heads of the last layer have no attention repair, and in parallel blocks no MLP repair": """
        UPDATE measurements
        SET repair_attention = repair_mlp, repair_mlp = 0
        WHERE prompt_id = 1 AND pos = 2 AND layer = 2
    """,
    "post-norm repair is there where the model has post-norms, and nowhere else": """
        UPDATE measurements SET repair_post_norm = 0 WHERE prompt_id = 1 AND pos = 2 AND layer = 1
    """,
    "the cross-check agrees": "UPDATE crosschecks SET error_max = 0.0021 WHERE layer = 0",
    "mechanism tables hold only what the run measured": "INSERT INTO logit_lens VALUES (1, 0, 0, 0, 1.5, -2.5, 7)",
    "mechanisms cover every unit": "UPDATE runs SET mechanisms = ['edges']",
    "numbers of mechanisms are finite": """
        INSERT INTO logprob_changes VALUES (1, 'mean', 0, 0, 0, 0, 'nan', 0.5)
    """,
    "edges add up to attention and MLP repair": """
        INSERT INTO edge_sums VALUES (1, 0, 'mean', 0, 0, 'all', 'head', 1, 0, 24, 5, 9, NULL, NULL, NULL, NULL, NULL)
    """,
    "experts and what is always on add up to the change of their MLP": """
        INSERT INTO routing_sums VALUES (1, 0, 'mean', 0, 0, 'all', 2, 4, 24, 9, 9, 48, 2.5, 5, 1.5, 2, 99, 98, 97, NULL);
        INSERT INTO expert_sums
        VALUES (1, 0, 'mean', 0, 0, 'all', 2, 3, 24, 20, 3.5, 1), (1, 0, 'mean', 0, 0, 'all', 2, 1, 24, 20, 0.5, 1)
    """,
    "MLPs with experts change as their edges say": """
        INSERT INTO edge_sums VALUES (1, 0, 'mean', 0, 0, 'top2', 'mlp', 2, NULL, 1, 0.5, 0.25, NULL, NULL, NULL, NULL, NULL);
        INSERT INTO routing_sums VALUES (1, 0, 'mean', 0, 0, 'top2', 2, 4, 1, 0, 0, 2, 0.5, 0.7, 0.7, 1, 1, 0, 0, NULL);
        INSERT INTO expert_sums
        VALUES (1, 0, 'mean', 0, 0, 'top2', 2, 3, 1, 1, 0.1, 0), (1, 0, 'mean', 0, 0, 'top2', 2, 1, 1, 1, -0.1, 0)
    """,
    "neurons add up to the change of their MLP": """
        INSERT INTO edge_sums VALUES (1, 0, 'mean', 0, 0, 'top2', 'mlp', 2, NULL, 1, 0.5, 0.25, NULL, NULL, NULL, NULL, NULL);
        INSERT INTO neuron_sums VALUES (1, 0, 'mean', 0, 0, 2, 1, 3.5, 0.4, 0.9, 0.6, 0.2, NULL, 'top2')
    """,
    "neurons of all MLPs add up to MLP repair": """
        INSERT INTO neuron_sums VALUES (1, 0, 'mean', 2, 0, 2, 1, 3.5, 9.4, 9.9, 9.6, 0.2, 1, 'top2_nobos');
        INSERT INTO neuron_changes VALUES (1, 'mean', 1, 2, 2, 0, 2, 5, -0.5, -0.1, 1, false, true)
    """,
    "kept neurons are of the tops that they say": """
        INSERT INTO neuron_changes VALUES (1, 'mean', 1, 0, 0, 0, 2, 5, -0.5, -0.1, 1, true, true)
    """,
    "kept neurons are ranked without gaps or repeats": """
        INSERT INTO neuron_changes
        SELECT 1, 'mean', 1, 2, 0, 0, 2, 5, -0.5, -0.1, rank, true, true
        FROM range(1, 3) AS ranks (rank)
    """,
    "the logit lens of the last layer is the clean prediction": """
        INSERT INTO logit_lens
        SELECT run_id, prompt_id, pos, 2, clean_logit, clean_logprob + 0.01, clean_rank
        FROM tokens
        WHERE prompt_id = 1 AND pos = 2
    """,
}


@pytest.fixture
def warehouse(tmp_path):
    """A sound warehouse of a run, to corrupt."""
    return loaded(tmp_path)


def broken(db) -> list[str]:
    return [check.name for check in verify(db) if not check.ok]


def test_a_sound_warehouse_breaks_no_rule(warehouse):
    checks = verify(warehouse)
    assert [check.name for check in checks] == [rule.name for rule in rules()]
    assert [check for check in checks if not check.ok] == []
    assert {check.name: check.detail for check in checks}["effects are finite"] == "864 rows of measurements"
    assert {check.name: check.detail for check in checks}["runs have a model"] == "1 row of runs"


def test_an_empty_warehouse_breaks_no_rule(db):
    with open_writer(db):
        pass
    assert broken(db) == []


def test_a_part_of_a_run_breaks_no_rule(fabricate, db, root):
    fabricate(parallel_blocks=True, ablations=("zero", "mean")).write(root, units=[0], crosscheck=False)
    load(db, root)
    assert broken(db) == []


def test_a_unit_that_is_missing_breaks_no_rule_but_its_own(fabricate, db, root):
    run = fabricate("run-a")
    run.write(root, units=[0])  # as a load does that refuses the other one
    assert {cell.prompt_id for cell in run.cells} >= {0, 5}
    load(db, root)
    assert broken(db) == []
    run.write(root, units=[1])
    load(db, root)
    with duckdb.connect(str(db)) as con:
        for table in ("prompts", "tokens", "measurements"):
            con.execute(f"DELETE FROM {table} WHERE prompt_id >= 3")
        con.execute("DELETE FROM units WHERE unit = 1")
    assert broken(db) == ["run status and errors follow from what is loaded"]


@pytest.mark.parametrize(
    ("tolerance", "added", "holds"), [(1e-3, 0.0002, False), (0.5, 0.04, True), (2.0, 0.19, True), (2.0, 0.21, False)]
)
def test_heads_and_neurons_add_up_as_far_as_their_precision_goes(tolerance, added, holds, fabricate, db, root):
    """Heads are added up in float32; attention adds them in bfloat16, and rounds: 0.013 logits in the bundled model."""
    fabricate(n_units=1, ablations=("mean",)).write(root)
    load(db, root)
    with duckdb.connect(str(db)) as con:
        con.execute(f"UPDATE runs SET crosscheck_tolerance = {tolerance}, mechanisms = ['edges', 'neurons_last']")
        con.execute(f"""
            INSERT INTO edge_sums BY NAME
            SELECT
                1 AS run_id, 0 AS unit, 'mean' AS ablation, layer, head, 'all' AS population, kind AS target_kind,
                2 AS target_layer, if(kind = 'head', 0, NULL) AS target_head, count(*) AS n_rows,
                sum(if(kind = 'head', repair_attention + {added}, repair_mlp)) AS change, 1 AS squared_change
            FROM measurements CROSS JOIN (VALUES ('head'), ('mlp')) AS kinds (kind)
            GROUP BY ALL;
            INSERT INTO edge_sums BY NAME
            SELECT * REPLACE ('top2' AS population, 1.0 AS change) FROM edge_sums WHERE target_kind = 'mlp';
            INSERT INTO neuron_sums BY NAME
            SELECT run_id, unit, ablation, layer, head, 2 AS mlp_layer, n_rows, 0 AS direct_effect,
                change + {added} * n_rows AS change, 1 AS absolute_change, 1 AS positive_change, 0 AS anti_erasure,
                'top2' AS population
            FROM edge_sums WHERE population = 'top2'
        """)
    rules_of_sums = ["edges add up to attention and MLP repair", "neurons add up to the change of their MLP"]
    assert [rule for rule in broken(db) if rule in rules_of_sums] == ([] if holds else rules_of_sums)


def test_prompts_of_another_run_are_seen(fabricate, db, root):
    """The fingerprint is as `PromptSet.fingerprint` makes it: real runs hold to it, as every test that verifies one shows."""

    def sha256(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()

    run = fabricate()
    lines = [
        f"{[int(token) for token in tokens]} {document}"
        for unit in run.units
        for tokens, document in zip(unit.prompts["token_ids"], unit.prompts["document_id"], strict=True)
    ]
    dataset = replace(run.record.dataset, fingerprint=sha256("".join(map(sha256, lines))))
    replace(run, record=replace(run.record, dataset=dataset)).write(root)
    load(db, root)
    assert broken(db) == []
    with duckdb.connect(str(db)) as con:
        con.execute("UPDATE prompts SET document_id = document_id + 1 WHERE prompt_id >= 3")
    assert broken(db) == ["whole runs have the prompts of their dataset"]


def test_every_rule_is_put_to_the_test():
    assert list(CORRUPTIONS) == [rule.name for rule in rules()]


@pytest.mark.parametrize("rule", CORRUPTIONS)
def test_a_rule_sees_its_corruption(warehouse, rule):
    with duckdb.connect(str(warehouse)) as con:
        con.execute(CORRUPTIONS[rule])
    assert rule in broken(warehouse)


@pytest.mark.parametrize(
    ("rule", "corruption", "detail"),
    [
        (
            "each unit has the rows its ledger entry states",
            "DELETE FROM measurements WHERE prompt_id = 4 AND pos = 1 AND layer = 0",
            "1 violation, such as run 1, unit 1: 420 rows of 3 prompts; the ledger states 432 of 3",
        ),
        (
            "no row appears twice",
            "INSERT INTO measurements FROM measurements WHERE prompt_id = 2 AND pos = 1 AND layer = 1 AND head = 3",
            "1 violation, such as run 1, prompt 2, position 1, L1H3: 6 rows for 3 ablations",
        ),
        (
            "effects are finite",
            """
            CREATE OR REPLACE TABLE measurements AS
            SELECT * REPLACE (if(prompt_id = 1 AND pos = 2 AND layer = 1, 'inf', logit_change) AS logit_change)
            FROM measurements
            """,
            "12 violations, such as measurements of run 1, prompt 1, position 2",
        ),
    ],
)
def test_the_detail_counts_and_gives_an_example(warehouse, rule, corruption, detail):
    with duckdb.connect(str(warehouse)) as con:
        con.execute(corruption)
    assert {check.name: check.detail for check in verify(warehouse)}[rule] == detail


@pytest.mark.parametrize(
    "partner",
    [
        "prompt_id",  # itself
        "-1",
        "NULL",
    ],
)
def test_partners_are_never_the_prompt_itself_outside_the_run_or_missing(warehouse, partner):
    with duckdb.connect(str(warehouse)) as con:
        con.execute(f"CREATE OR REPLACE TABLE prompts AS SELECT * REPLACE ({partner} AS partner_id) FROM prompts")
    assert broken(warehouse) == ["resample partners are other prompts of the run"]


def test_an_answer_is_measured_at_one_position(warehouse):
    rule = "measurements have a token"
    with duckdb.connect(str(warehouse)) as con:
        con.execute("UPDATE runs SET logit_of = 'answer'")
        for table in ("tokens", "measurements"):
            con.execute(f"DELETE FROM {table} WHERE pos < 3")
    assert broken(warehouse) == ["each unit has the rows its ledger entry states"]
    with duckdb.connect(str(warehouse)) as con:
        con.execute("UPDATE measurements SET pos = 2 WHERE prompt_id = 4 AND layer = 1 AND head = 2")
    assert {check.name: check.detail for check in verify(warehouse)}[rule] == (
        "1 violation, such as measurements of run 1, prompt 4, positions 2 to 3"
    )


@pytest.mark.parametrize(
    "corruption",
    [
        "UPDATE prompts SET partner_id = prompt_id",
        "UPDATE measurements SET logit_change = 'nan' WHERE pos = 1",
        "UPDATE measurements SET pos = -1",
        "UPDATE tokens SET clean_rank = 0",
        "UPDATE runs SET n_units = 0",
    ],
)
def test_the_tables_themselves_refuse_what_can_never_be(warehouse, corruption):
    with contextlib.closing(duckdb.connect(str(warehouse))) as con, pytest.raises(duckdb.ConstraintException):
        con.execute(corruption)


@pytest.mark.parametrize(
    ("value", "rules"),
    [
        ("repair_post_norm", []),
        (
            "NULL",
            [
                "the identity holds in the stored rows",
                "post-norm repair is there where the model has post-norms, and nowhere else",
            ],
        ),
        ("repair_post_norm + 0.0014", ["the identity holds in the stored rows"]),
        ("'inf'", ["effects are finite", "the identity holds in the stored rows"]),
    ],
)
def test_post_norm_repair_is_a_part_of_the_identity(fabricate, db, root, value, rules):
    fabricate(post_norms=True).write(root)
    load(db, root)
    with duckdb.connect(str(db)) as con:
        con.execute(f"UPDATE measurements SET repair_post_norm = {value} WHERE prompt_id = 1 AND pos = 2 AND layer = 1")
    assert broken(db) == rules


def test_parallel_models_repair_nothing_with_mlps_after_the_last_layer(fabricate, db, root):
    fabricate(parallel_blocks=False).write(root)
    load(db, root)
    with duckdb.connect(str(db)) as con:
        con.execute("UPDATE models SET parallel_blocks = TRUE")
    assert broken(db) == ["heads of the last layer have no attention repair, and in parallel blocks no MLP repair"]

"""An answer without rows says which option would have measured what it is about."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from selfrepair.app.cli.main import main
from selfrepair.queries.catalog.questions import questions
from selfrepair.queries.client.unmeasured import ADDED_BY
from selfrepair.warehouse.parts.manifest import MECHANISM_TABLES
from support.fabricate import fabricate
from support.loaded import loaded, stored


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without mechanisms."""
    return loaded(tmp_path_factory.mktemp("plain"))


def told(db: Path, *asked: str) -> str:
    done = CliRunner().invoke(main, ["query", *asked, "--db", str(db)])
    assert done.exit_code == 0, done.output
    return done.output


def test_every_table_of_a_mechanism_has_an_option() -> None:
    assert set(ADDED_BY) == set(MECHANISM_TABLES)


@pytest.mark.parametrize(
    ("asked", "option"),
    [
        (("who_repairs",), "--edges"),
        (("neuron_changes",), "--neurons last"),
        (("FROM logit_lens_by_layer",), "--logit-lens"),
        (("measure_agreement",), "--logprobs"),
        (("self_repression_slope",), "--self-repression"),
        (("who_repairs_head", "--param", "layer=1", "--param", "head=2"), "--edges"),
    ],
)
def test_what_was_not_measured_is_said_with_its_option(db: Path, asked: tuple[str, ...], option: str) -> None:
    output = told(db, *asked)
    assert re.search(r"^0 rows", output, re.MULTILINE)
    assert f"No run of this file has measured it: selfrepair ingest {option} does" in output


def test_other_empty_answers_say_no_more(db: Path, tmp_path: Path) -> None:
    assert "No run of this file" not in told(db, "FROM measurements WHERE layer = 99")
    measured = stored(tmp_path, fabricate(mechanisms=True))
    assert "No run of this file" not in told(measured, "FROM who_repairs WHERE layer = 99")
    assert "who_repairs_head" in questions()

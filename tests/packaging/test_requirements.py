"""What an installation gets, by what pyproject.toml asks for. No package index is needed."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.lower().replace("_", "-").split("==") for line in lines if "==" in line)


def asked_of(name: str, requirements: list[str]) -> list[Requirement]:
    return [one for one in map(Requirement, requirements) if one.name.lower() == name]


def test_a_fresh_install_gets_duckdb_2_and_may_have_1_5(project):
    (duckdb,) = asked_of("duckdb", project["dependencies"])
    taken = [one for one in ("1.5.3", "1.5.4", "1.5.6", "2.0.1", "3.0") if one in duckdb.specifier]
    assert taken == ["1.5.4", "1.5.6", "2.0.1"]
    (dialect,) = asked_of("duckdb-sqlalchemy", project["dependencies"])
    assert "1.5.6.4" in dialect.specifier
    assert "1.5.6.5" not in dialect.specifier, "it takes no DuckDB 2, and pip would rather have it than that"


def test_every_pin_is_one_that_pyproject_takes(project, pinned):
    asked = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    found = [one for one in map(Requirement, asked) if one.name != "selfrepair"]
    assert [str(one) for one in found if pinned[one.name.lower().replace("_", "-")] not in one.specifier] == []


def test_an_extension_is_pinned_to_the_duckdb_that_is_pinned(pinned):
    extensions = {name: version for name, version in pinned.items() if name.startswith("duckdb-extension-")}
    assert len(extensions) == 4
    assert set(extensions.values()) == {pinned["duckdb"]}

"""What tests copy is made once, whole, and depends on nothing but what it is made of."""

from pathlib import Path

import pytest

from support import templates
from support.fabricate import fabricate
from support.loaded import stored
from support.templates import digest, made_once


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "_shared", [tmp_path])


@pytest.mark.usefixtures("shared")
def test_what_failed_half_way_is_made_again_and_then_no_more() -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise RuntimeError("no room")

    with pytest.raises(RuntimeError, match="no room"):
        made_once("a", fail)
    made = [made_once("a", lambda folder, name=name: (folder / name).touch()) for name in ("first", "second")]
    assert made[0] == made[1]
    assert [path.name for path in made[0].iterdir()] == ["first"]


@pytest.mark.parametrize("mechanisms", [False, True])
def test_a_run_is_decided_by_its_arguments_alone(mechanisms: bool) -> None:
    assert digest(fabricate(mechanisms=mechanisms)) == digest(fabricate(mechanisms=mechanisms))
    assert digest(fabricate(mechanisms=mechanisms)) != digest(fabricate(mechanisms=mechanisms, seed=12))


def test_a_copy_is_the_tests_own(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    before = stored(tmp_path, fabricate()).read_bytes()
    (tmp_path / "w.duckdb").write_bytes(b"")
    assert stored(tmp_path / "other", fabricate()).read_bytes() == before

"""Any link opens its page: with what it names, or with a default and a line that says so."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfrepair.app.data.chosen import CHOICE, OWN
from selfrepair.queries.sandbox import process
from support.fabricate import fabricate
from support.loaded import stored
from support.pages import opened
from support.tiers import examples

_VALUES = st.one_of(
    st.sampled_from(
        (
            *("tiny-model", "1", "2", "resample", "mean", "zero", "top2", "all", "L0H1", "L2H3", "0"),
            *("3", "0.5", "chart"),
            *("", "-1", "99999999999999999999", "1e400", "nan", "-inf", "L99H99", "L0H\u0661"),
            *("\u00b2", "1_0", " 1", "0x1"),
            *("1,2", "[1]", "'; DROP TABLE runs", '"', "<img src=x>", "\x00", "\u202e", "true", "None"),
            *("x" * 7_000, "FROM runs"),
            *("SELECT 1 AS a, 2 AS a", "SELECT 'infinity'::DATE AS x", "head_repair", "histogram"),
            *("Questions", "table"),
        )
    ),
    st.text(max_size=6),
)


def _links(page: str) -> st.SearchStrategy[tuple[str, dict[str, str]]]:
    return st.tuples(st.just(page), st.dictionaries(st.sampled_from((*CHOICE, *OWN[page])), _VALUES, max_size=6))


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield stored(tmp_path_factory.mktemp("fuzz"), fabricate(mechanisms=True), fabricate("run-b", model="other", seed=3))
    process.end_idle()


@pytest.mark.slow
@given(st.sampled_from(sorted(OWN)).flatmap(_links))
@settings(examples(quick=1, full=15, fuzz=40), suppress_health_check=list(HealthCheck))
def test_a_page_opens_with_any_link(
    db: Path, monkeypatch: pytest.MonkeyPatch, link: tuple[str, dict[str, str]]
) -> None:
    page, parameters = link
    before = db.read_bytes()
    app = opened(page, db, monkeypatch, **parameters)
    assert app.title or app.error
    assert db.read_bytes() == before

"""What was chosen holds on every page, and a link that asks for what is not there says so."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

from selfrepair.app.components import figure
from selfrepair.app.components.about import file_stem, title_lines
from selfrepair.app.data.chosen import CHOICE, OWN
from support.browser import FIRST, PAGES
from support.fabricate import fabricate
from support.loaded import stored
from support.pages import opened, said

LINK = {"model": "demo", "run": "1", "ablation": "zero", "population": "all", "head": "L1H2", "prompt": "3"}
"""None of these is what its page shows by default."""

WITHOUT_RUN = ("sql", "ingests")

IMPOSSIBLE: list[tuple[str, dict[str, str], dict[str, str]]] = [
    ("overview", {"part": "Heads", "unit": "yards"}, {}),
    ("heads", {"measure": "DROP TABLE", "effect": "'", "unit": ""}, {}),
    ("components", {"unit": "x", "level": "x", "fraction_of": "ÿ", "dimension": ""}, {}),
    ("tails", {"others": "L0H1,L9H9", "effect": "gini", "head": "L9H9", "population": "few"}, {}),
    (
        "tokens",
        {"prompt": "6", "colour": "odd", "coloured": "never", "scale": "fixed", "pinned": "99", "find": "?"},
        {},
    ),
    ("tokens", {"at": "9", "max_logits": "-3"}, {"pinned": "1", "scale": "fixed value"}),
    (
        "tokens",
        {"max_ratio": "inf", "role": "x"},
        {"scale": "fixed value", "colour": "ln_scale_ratio", "find": "with a token"},
    ),
    (
        "tokens",
        {"max_nats": "x", "match": "x"},
        {"scale": "fixed value", "colour": "clean_logprob", "find": "with a token"},
    ),
    ("compare", {"run_b": "99", "ablation_b": "' OR 1", "measure": "<b>", "effect": "x"}, {}),
    ("who_repairs", {"min_change": "7"}, {}),
    ("neurons", {"mlp": "77", "neuron": "99999"}, {}),
    ("self_repression", {"multiple": "7"}, {}),
    ("logit_lens", {"ablation": "x"}, {}),
    ("sql", {"view": "no_view"}, {}),
    ("sql", {"beside": "Nothing", "as": "poem"}, {"sql": "FROM models"}),
    ("sql", {"question": "why"}, {"beside": "Questions"}),
    ("sql", {"kind": "pie", "x": "u", "y": "v", "colour_by": "w"}, {"sql": "FROM models", "as": "chart"}),
    ("ingests", {"live": "perhaps"}, {}),
]
"""Pages, parameters with values that these cannot show, and those that it takes for their widgets to be drawn."""

UNLIMITED = {("tokens", "token"), ("sql", "sql"), ("sql", "draft")}
"""Texts of which each is possible."""


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of different shapes; the newer run has one ablation."""
    demo = fabricate("one", model="demo", mechanisms=True)
    other = fabricate("two", model="other", seed=3, n_layers=2, n_heads=2, ablations=("mean",))
    return stored(tmp_path_factory.mktemp("choice"), demo, other)


def links(app: AppTest) -> dict[str, dict[str, str]]:
    """The parameters of the page's links to other pages, by their names, the first link to each."""
    found: dict[str, dict[str, str]] = {}
    for link in app.get("page_link"):
        parameters = {name: values[0] for name, values in parse_qs(link.proto.query_string).items()}
        found.setdefault(link.proto.page or FIRST, parameters)
    return found


def shown(app: AppTest) -> dict[str, str]:
    """What the page shows, of the names that links of all pages carry."""
    boxes = {box.key: str(box.value) for box in [*app.selectbox, *app.number_input]}
    return {name: boxes[name] for name in CHOICE if name in boxes}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """What the files of the figures and tables of a page say that they are about, in their order."""
    found: list[dict[str, str]] = []

    def files(frame: pl.DataFrame, chart: figure.Picture | None, told: dict[str, str]) -> dict[str, Any]:
        found.append(told)
        return {}

    monkeypatch.setattr(figure, "_files", files)
    return found


def test_files_say_what_they_are_about_and_a_map_of_all_heads_is_about_none(
    told: list[dict[str, str]], db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened("heads", db, monkeypatch, **(LINK | {"population": "top2_nobos"}))
    of_run = {"model": "demo", "run": "1", "dataset": "tiny-text", "prompts": "6", "ablation": "zero"}
    cells, means, rows, parts, *_ = told
    assert cells == means == of_run | {"population": "top2_nobos", "n": "1 row of each head", "error bars": "none"}
    assert rows == of_run | {"population": "all", "head": "L1H2", "n": "24 of its 24 rows", "error bars": "none"}
    bars = "95 % intervals, clustered by document"
    assert parts == cells | {"head": "L1H2", "error bars": bars}
    assert file_stem("head_parts", parts) == "head_parts_run-1_zero_top2_nobos_L1H2"
    assert title_lines(parts) == [
        "demo, run 1, 6 prompts of tiny-text, zero ablation",
        "rows used: top 2 %, without position 0; head: L1H2; n: 1 row of each head",
        f"error bars: {bars}",
    ]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_what_its_link_says_and_has_it_in_its_links_to_all_others(
    name: str, told: list[dict[str, str]], db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = opened(name, db, monkeypatch, **LINK)
    assert all("error bars" in of_file and ("dataset" in of_file or "runs" in of_file) for of_file in told if of_file)
    assert not any(told) or name not in WITHOUT_RUN
    assert shown(app).items() <= LINK.items()
    assert len(shown(app)) >= (0 if name in WITHOUT_RUN else 4)
    assert not app.warning
    found = links(app)
    assert sorted(found) == PAGES
    assert all(LINK.items() <= link.items() for link in found.values())
    assert app.query_params == LINK, "a page that writes its link is one more step for the back button"


def test_every_link_of_the_app_to_another_page_has_all_that_is_chosen(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_compare = opened("compare", db, monkeypatch, **LINK)
    (button,) = (link.proto for link in from_compare.get("page_link") if link.proto.label == "Open L1H2 in Heads")
    assert {name: values[0] for name, values in parse_qs(button.query_string).items()} == LINK
    to_sql = [
        link.proto.query_string for link in from_compare.get("page_link") if link.proto.label.endswith("SQL page")
    ]
    assert all(LINK.items() <= {name: values[0] for name, values in parse_qs(link).items()}.items() for link in to_sql)


def test_a_choice_holds_on_the_pages_after_it_also_where_the_run_is_another(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = opened("heads", db, monkeypatch, **LINK, measure="gini")
    app.selectbox(key="model").set_value("other").run()
    assert shown(app) == {"model": "other", "run": "2", "ablation": "mean", "population": "all", "head": "L1H1"}
    assert [warning.value for warning in app.warning] == [
        "Ablation 'zero' does not exist in run 2; mean is shown instead.",
        "Head 'L1H2' does not exist in this run; L1H1 is shown instead.",
    ]
    app.selectbox(key="head").set_value("L0H1").run()
    app.query_params = links(app)["compare"]
    app.switch_page("app_pages/tails.py").run()
    assert shown(app) == {"model": "other", "run": "2", "ablation": "mean", "population": "all", "head": "L0H1"}
    app.selectbox(key="run").set_value("2").run()
    app.query_params = links(app)["heads"]
    app.switch_page("app_pages/heads.py").run()
    assert app.selectbox(key="measure").value == "gini"


def test_what_is_changed_is_in_the_link_at_once_and_what_is_not_is_left_out(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = opened("heads", db, monkeypatch)
    assert app.query_params == {}
    assert links(app)["tails"] == {"model": "other", "run": "2"}
    app.selectbox(key="head").set_value("L0H1").run()
    assert app.query_params == {"model": "other", "run": "2", "head": "L0H1"}


@pytest.mark.parametrize(("name", "values", "besides"), IMPOSSIBLE)
def test_a_link_with_an_impossible_value_says_so(
    name: str, values: dict[str, str], besides: dict[str, str], db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = opened(name, db, monkeypatch, **{"run": "1", **values, **besides})
    assert len(app.warning) == len(values)
    for value in values.values():
        assert value.split(",")[-1].strip("'<>") in said(app).replace("\\", "")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("model", "gone![x](http://c.example/x.png)", "other is shown instead"),
        ("run", "99", "run 2 is shown instead"),
        ("ablation", "zero", "does not exist in run 2; mean is shown instead"),
    ],
)
def test_so_does_one_that_names_no_run(
    name: str, value: str, told: str, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (warning,) = opened("logit_lens", db, monkeypatch, **{name: value}).warning
    assert told in warning.value.replace("\\", "")
    assert "![" not in warning.value


def test_every_parameter_of_every_page_has_such_a_link() -> None:
    tried = {(page, name) for page, values, _ in IMPOSSIBLE for name in values if name not in CHOICE} | UNLIMITED
    of_reproduce = {("reproduce", name) for name in OWN["reproduce"]}  # in its own tests: it needs published numbers
    assert tried | of_reproduce == {(page, name) for page, names in OWN.items() for name in names}
    assert sorted(OWN) == PAGES

"""Pictures as the browser gets them."""

import io

import altair as alt
import polars as pl
import pytest
from altair.utils.schemapi import SchemaValidationError

from selfrepair.app.charts.quick import KINDS, Kind, quick_chart
from selfrepair.app.components import figure

FRAME = pl.DataFrame({"x": [1.0, 2.0], "y": [3.0, 4.0]})
OTHER = FRAME.with_columns(y=pl.lit(5.0))


def layered(frame: pl.DataFrame) -> alt.LayerChart:
    dots = alt.Chart(frame).mark_circle().encode(x="x:Q", y="y:Q")
    line = alt.Chart(frame).mark_line().encode(x="x:Q", y="y:Q")
    return dots + line + alt.Chart(pl.DataFrame({"zero": [0]})).mark_rule().encode(y="zero:Q")


def test_data_are_named_by_their_place_so_that_new_ones_are_drawn_into_the_same_picture() -> None:
    one, other = figure.spec_of(layered(FRAME)), figure.spec_of(layered(OTHER))
    assert list(one["datasets"]) == ["data 0", "data 1"]
    assert one["datasets"]["data 0"].equals(FRAME)
    assert other["datasets"]["data 0"].equals(OTHER)
    del one["datasets"], other["datasets"]
    assert one == other


def test_a_picture_that_vega_lite_does_not_know_fails_every_test_that_draws_it() -> None:
    wrong = alt.Chart(FRAME).mark_circle().encode(x=alt.X("x:Q", scale={"type": "lienar"}))
    with pytest.raises(SchemaValidationError, match="lienar"):
        figure.spec_of(wrong)


def test_a_picture_as_a_file_holds_its_data() -> None:
    spec = figure.self_contained(layered(FRAME), {"runs": "runs 1 and 2", "n": "7 rows", "error bars": "none"})
    assert (spec["title"]["text"], *spec["title"]["subtitle"]) == ("runs 1 and 2", "n: 7 rows", "error bars: none")
    assert spec["datasets"]["data 0"] == FRAME.to_dicts()
    assert spec["width"] == figure._FILE_WIDTH_PX


def test_data_as_a_file_say_what_they_are_of() -> None:
    told = {"model": "demo", "run": "1", "population": "top2", "error bars": "none"}
    files = figure._files(FRAME, None, told)
    lines = files["CSV"]().splitlines()  # type: ignore[arg-type]
    assert lines[:4] == ["# model: demo", "# run: 1", "# rows used: top 2 % by direct effect", "# error bars: none"]
    assert pl.read_csv(io.StringIO("\n".join(lines)), comment_prefix="#").equals(FRAME)
    of_file = pl.read_parquet_metadata(io.BytesIO(files["Parquet"]()))  # type: ignore[arg-type]
    assert {"model": "demo", "rows used": "top 2 % by direct effect"}.items() <= of_file.items()


@pytest.mark.parametrize("kind", KINDS)
def test_no_tooltip_names_a_value_as_vega_names_an_image(kind: Kind) -> None:
    frame = pl.DataFrame(
        {"image": ["http://a.example/b.png", "b"], "title": [1.5, 2.5], "__proto__": [1, 2], "x": [1, 2]}
    )
    specs = [
        figure.spec_of(quick_chart(frame, kind, "image", "title", "x", {})),
        figure.spec_of(layered(FRAME) | alt.Chart(FRAME).mark_point().encode(tooltip=["x:Q", alt.Tooltip("image:N")])),
        figure.spec_of(
            alt.Chart(FRAME).mark_point().encode(tooltip=alt.Tooltip("x:Q", title="image")).facet("title:N")
        ),
    ]
    titles = [title for spec in specs for title in tooltip_titles(spec)]
    assert titles.count("column image") == 3
    assert not {"image", "title", "__proto__"} & set(titles)
    assert specs[0]["encoding"]["x"]["title"] == "image"  # an axis is only text


def tooltip_titles(spec: object) -> list[str]:
    if isinstance(spec, list):
        return [title for part in spec for title in tooltip_titles(part)]
    if not isinstance(spec, dict):
        return []
    tooltips = spec.get("tooltip", [])
    found = [
        tip.get("title", tip.get("field")) for tip in (tooltips if isinstance(tooltips, list) else [tooltips]) if tip
    ]
    return found + tooltip_titles([part for name, part in spec.items() if name != "tooltip"])

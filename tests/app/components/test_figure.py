"""Pictures as the browser gets them."""

import io

import altair as alt
import polars as pl
import pytest
from altair.utils.schemapi import SchemaValidationError

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
    spec = figure._self_contained(layered(FRAME), {"runs": "runs 1 and 2", "n": "7 rows", "error bars": "none"})
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

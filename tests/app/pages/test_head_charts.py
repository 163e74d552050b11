"""The pictures of heads: their colours, frames and lines."""

from typing import Any

import polars as pl
import pytest

from selfrepair.app.charts.heads.heatmap import head_map
from selfrepair.app.charts.heads.parts import part_bars
from selfrepair.app.charts.heads.prompts import prompt_histogram
from selfrepair.app.charts.heads.scatter import head_scatter, row_scatter
from selfrepair.app.charts.style.color_domain import color_domain, saturation_caption
from selfrepair.app.charts.style.head_colors import CHOSEN
from selfrepair.app.charts.style.zones import span, within
from selfrepair.app.components.figure import spec_of
from selfrepair.app.wording.whitespace import whitespace_column


def test_colours_are_as_far_apart_on_both_sides_of_the_centre() -> None:
    assert color_domain([pl.Series([-0.25, None, 2.0])], 0.0) == (-2.0, 2.0)
    assert color_domain([pl.Series([0.5]), pl.Series([1.25])], 1.0) == (0.5, 1.5)
    assert color_domain([pl.Series([0.5, 3.0])], None) == (0.5, 3.0)
    assert color_domain([pl.Series([None, None], dtype=pl.Float64)], 0.0) == (-1.0, 1.0)
    assert color_domain([pl.Series([], dtype=pl.Float64)], None) == (-0.5, 0.5)


def test_colours_end_where_the_usual_heads_do_and_what_lies_beyond_is_told() -> None:
    usual = [-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5]
    assert color_domain([pl.Series(usual)], 0.0) == (-1.5, 1.5)  # the most extreme is no outlier
    one = pl.Series([*usual, -8.0, None])
    assert color_domain([one], 0.0) == (-1.5, 1.5)
    assert saturation_caption(one, (-1.5, 1.5), " [logits]") == "Colours saturate at ±1.5 [logits]; 1 head is beyond."
    assert saturation_caption(pl.Series(usual), (-1.5, 1.5), "") is None
    assert color_domain([one.head(5), one.tail(7)], 0.0) == (-1.5, 1.5)  # as one
    assert color_domain([one + 1], 1.0) == (-0.5, 2.5)
    shares = pl.Series([*[0.5 + value / 8 for value in usual] * 4, 9.0, 10.0])
    low, high = color_domain([shares], None)
    assert (low, high) == (0.375, 0.6875)
    assert saturation_caption(shares, (low, high), "") == "Colours saturate at 0.375 and 0.688; 2 heads are beyond."


def test_few_heads_and_heads_that_are_mostly_the_same_have_no_outliers() -> None:
    assert color_domain([pl.Series([0.5, 0.25, 8.0])], 0.0) == (-8.0, 8.0)
    assert color_domain([pl.Series([0.0] * 30 + [8.0])], 0.0) == (-8.0, 8.0)


def test_a_map_frames_the_chosen_head_and_greys_what_is_missing() -> None:
    heads = pl.DataFrame({"layer": [0, 1], "head": [0, 0], "label": ["L0H0", "L1H0"], "x": [0.5, None]})
    spec = head_map(heads, "x", words="X [logits]", centre=0.0, chosen="L1H0").to_dict()
    cells, frame = spec["layer"]
    assert spec["datasets"][frame["data"]["name"]] == [{"layer": 1, "head": 0}]
    assert frame["mark"]["stroke"] == CHOSEN
    assert cells["encoding"]["color"]["condition"]["test"] == "!isValid(datum['x'])"
    assert "value" in cells["encoding"]["color"]["condition"]


def test_another_head_changes_data_alone_and_no_picture_of_heads_is_made_anew() -> None:
    heads = pl.DataFrame(
        {
            "label": ["L0H0", "L1H0"],
            "layer": [0, 1],
            "head": [0, 0],
            "mean_direct_effect": [0.5, 2.0],
            "mean_logit_change": [-1.0, 0.5],
            "mean_self_repair": [-0.5, 2.5],
        }
    )
    rows = pl.DataFrame(
        {
            "prompt_id": [3, 4],
            "pos": [1, 1],
            "token": ["a", "b"],
            "target": ["b", "c"],
            "direct_effect": [0.0, 0.5],
            "logit_change": [0.0, -3.0],
            "self_repair": [0.0, -2.5],
        }
    )
    other = rows.with_columns(pl.col("logit_change") * -9)

    def without_data(chart: Any) -> dict[str, Any]:
        return {name: part for name, part in spec_of(chart).items() if name != "datasets"}

    for one, two in (
        *(
            (draw("L0H0"), draw("L1H0"))
            for draw in (
                lambda chosen: head_map(heads, "mean_self_repair", words="X", centre=0.0, chosen=chosen),
                lambda chosen: head_scatter(heads, chosen),
            )
        ),
        (row_scatter(rows, -6.0, 0.0), row_scatter(other, None, None)),
    ):
        assert without_data(one) == without_data(two)
        assert spec_of(one)["datasets"].keys() == spec_of(two)["datasets"].keys()


def test_the_line_of_no_self_repair_goes_through_opposite_corners() -> None:
    heads = pl.DataFrame(
        {
            "label": ["L0H0", "L0H1"],
            "layer": [0, 0],
            "mean_direct_effect": [0.0, 2.0],
            "mean_logit_change": [-1.0, 0.5],
            "mean_self_repair": [-1.0, 2.5],
        }
    )
    spec = head_scatter(heads, "L0H1").to_dict()
    drawn = [row for rows in spec["datasets"].values() for row in rows]
    x, y = span(heads["mean_direct_effect"]), span(heads["mean_logit_change"])
    start, end = (row for row in drawn if row.keys() == {"x", "y"})
    assert start == {"x": x[0], "y": -x[0]}
    assert (end["x"], end["y"]) == pytest.approx((-y[0], y[0]))  # where the axis ends, so that it is no longer for it
    words = {row["text"]: (row["x"], row["y"]) for row in drawn if "text" in row}
    assert words.keys() == {"self-repaired", "no self-repair", "breakage"}
    assert (words["breakage"], words["self-repaired"]) == ((x[0], y[0]), (x[1], y[1]))


@pytest.mark.parametrize(
    ("slope", "intercept", "ends"),
    [
        (0.5, 0.0, [(-1.0, -0.5), (2.0, 1.0)]),
        (4.0, 0.0, [(-0.5, -2.0), (0.75, 3.0)]),
        (-4.0, 1.0, [(-0.5, 3.0), (0.75, -2.0)]),
        (0.0, 2.5, [(-1.0, 2.5), (2.0, 2.5)]),
        (0.0, 3.5, []),
        (1.0, 9.0, []),
        (None, None, []),
    ],
)
def test_a_line_ends_where_the_axes_do(
    slope: float | None, intercept: float | None, ends: list[tuple[float, float]]
) -> None:
    assert within((-1.0, 2.0), (-2.0, 3.0), slope, intercept).rows() == ends


def test_rows_of_one_value_have_no_fit_and_tokens_stay_as_they_are() -> None:
    rows = pl.DataFrame(
        {
            "prompt_id": [3],
            "pos": [1],
            "token": ["<b>\n"],
            "target": [" the"],
            "direct_effect": [0.0],
            "logit_change": [0.0],
            "self_repair": [0.0],
        }
    )
    drawn = [row for data in row_scatter(rows, None, None).to_dict()["datasets"].values() for row in data]
    assert [(row["token"], row["target"]) for row in drawn if "token" in row] == [("<b>⏎", "·the")]
    assert sum(row.keys() == {"x", "y"} for row in drawn) == 2  # the line of no self-repair alone
    assert rows.select(whitespace_column("token")).item() == "<b>⏎"


def test_bars_and_bins_carry_their_data() -> None:
    parts = pl.DataFrame({"part": ["total", "MLP"], "value": [0.5, -0.25], "low": [0.25, None], "high": [0.75, None]})
    spec = part_bars(parts, "Self-repair [logits]", ".3f").to_dict()
    assert parts.to_dicts() in list(spec["datasets"].values())
    bins = pl.DataFrame({"low": [-0.5, 0.0], "high": [0.0, 0.5], "n_prompts": [2, 4]})
    assert len(prompt_histogram(bins, None).to_dict()["layer"]) == 2
    assert len(prompt_histogram(bins, 0.125).to_dict()["layer"]) == 3

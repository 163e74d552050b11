"""Queries of the page Compare: one measure of the heads that both sides have."""

from dataclasses import dataclass

from selfrepair.app.data.choice import Choice
from selfrepair.app.data.measures import Measure

MAX_HEADS_LISTED = 20


@dataclass(frozen=True)
class Pair:
    """One measure of the heads of two sides; `effect` is the number whose distribution the measures of `head_tail` describe."""

    measure: Measure
    one: Choice
    other: Choice
    effect: str

    def heads(self) -> str:
        """layer, head, label, value_a, value_b, difference (a - b) and difference_in_se of every shared head.

        difference_in_se treats the sides' standard errors as independent; NULL where the measure has none.
        """
        return f"{self._pairs()}\nSELECT\n{_COLUMNS}\nFROM pairs\nORDER BY layer, head"

    def most_different(self) -> str:
        """The same for the heads that differ most, in order."""
        return (
            f"{self._pairs()}\nSELECT\n{_COLUMNS}\nFROM pairs\nWHERE difference IS NOT NULL\n"
            f"ORDER BY abs(difference) DESC, layer, head\nLIMIT {MAX_HEADS_LISTED}"
        )

    def agreement(self) -> str:
        """n_a and n_b, the heads of each side, n_shared, n_compared (neither side NULL), and over these: the sides' means,
        pearson and spearman (ties share their average rank; NULL where all heads of a side are equal),
        mean_difference and mean_absolute_difference.
        """
        return f"""{self._pairs()},
known AS (
    SELECT
        *,
        rank() OVER (ORDER BY value_a) + (count(*) OVER (PARTITION BY value_a) - 1) / 2 AS place_a,
        rank() OVER (ORDER BY value_b) + (count(*) OVER (PARTITION BY value_b) - 1) / 2 AS place_b
    FROM pairs
    WHERE difference IS NOT NULL
)
SELECT
    (SELECT count(*) FROM side_a) AS n_a,
    (SELECT count(*) FROM side_b) AS n_b,
    (SELECT count(*) FROM pairs) AS n_shared,
    count(*) AS n_compared,
    avg(value_a) AS mean_a,
    avg(value_b) AS mean_b,
    CASE WHEN min(value_a) < max(value_a) AND min(value_b) < max(value_b) THEN corr(value_a, value_b) END AS pearson,
    CASE WHEN min(value_a) < max(value_a) AND min(value_b) < max(value_b) THEN corr(place_a, place_b) END AS spearman,
    avg(difference) AS mean_difference,
    avg(abs(difference)) AS mean_absolute_difference
FROM known"""

    def _pairs(self) -> str:
        return f"""WITH side_a AS (
{self._side(self.one)}
),
side_b AS (
{self._side(self.other)}
),
pairs AS (
    SELECT
        layer,
        head,
        side_a.label,
        side_a.value AS value_a,
        side_b.value AS value_b,
        side_a.value - side_b.value AS difference,
        difference / nullif(sqrt(side_a.error ** 2 + side_b.error ** 2), 0) AS difference_in_se
    FROM side_a
    INNER JOIN side_b USING (layer, head)
)"""

    def _side(self, side: Choice) -> str:
        return (
            f"    SELECT layer, head, label, CAST({self.measure.name} AS DOUBLE) AS value, {self.measure.error} AS error\n"
            f"    FROM {self.measure.view}\n    WHERE {self.measure.where(side, self.effect)}"
        )


_COLUMNS = "    layer,\n    head,\n    label,\n    value_a,\n    value_b,\n    difference,\n    difference_in_se"

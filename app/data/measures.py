"""Every number that the warehouse has of a head, and how to query it: what heat maps of heads can show."""

from dataclasses import dataclass
from functools import cache

from selfrepair.app.data.choice import Choice
from selfrepair.app.wording.columns import column, effect_words, meaning, title
from selfrepair.queries.catalog.quoting import literal
from selfrepair.queries.catalog.relations import relations

VIEWS = ("head_repair", "head_noise", "head_tail")
"""The views with a row for each head."""

EFFECTS = ("direct_effect", "logit_change", "self_repair", "abs_direct_effect", "abs_logit_change", "abs_self_repair")
"""Numbers of a row whose distributions `head_tail` describes."""

_ENDINGS_OF_ERRORS = ("_se", "_low", "_high")
_NO_MEASURES = {"depth"}
_COUNTS = {"undefined_ratios"}
_NEVER_BELOW_0 = ("_share", "_sd_within", "_sd_between", "gini", "hill_", "clipped_", "undefined_")


@dataclass(frozen=True)
class Measure:
    """A column of a view with a row for each head."""

    view: str
    name: str

    @property
    def title(self) -> str:
        """Its name in words, with its unit."""
        return title(self.view, self.name)

    @property
    def unit(self) -> str:
        """Its unit as a suffix, ' [logits]'; empty where it has none."""
        unit = column(self.view, self.name).unit
        return f" [{unit}]" if unit else ""

    @property
    def meaning(self) -> str:
        """What it means, in a sentence."""
        return meaning(self.view, self.name)

    @property
    def centre(self) -> float | None:
        """The value from which colours diverge; None for a measure that is never negative."""
        if self.name == "mean_ln_scale_ratio":
            return 1.0
        return None if any(part in self.name for part in _NEVER_BELOW_0) else 0.0

    @property
    def error(self) -> str:
        """SQL of its standard error, NULL where it has none."""
        has_one = any(column.name == f"{self.name}_se" for column in relations()[self.view].columns)
        return f"{self.name}_se" if has_one else "NULL::DOUBLE"

    def rows(self, population: str, effect: str) -> str:
        """The rows used, in a sentence; `population` in words."""
        if self.view == "head_repair":
            return f"Rows used: {population}."
        of_effect = f"Distribution of {effect_title(effect)}. " if self.view == "head_tail" else ""
        return f"{of_effect}Rows used: all."

    def where(self, choice: Choice, effect: str) -> str:
        """The condition on its view's rows. Only `head_repair` has populations, only `head_tail` effects."""
        if self.view == "head_repair":
            return choice.where
        return choice.where_rows + (f" AND measure = {literal(effect)}" if self.view == "head_tail" else "")


@cache
def measures() -> dict[str, Measure]:
    """Every measure by its column's name; a column of several views is taken from the first."""
    found: dict[str, Measure] = {}
    for view in VIEWS:
        for each in relations()[view].columns:
            is_number = each.type in ("DOUBLE", "FLOAT") or each.name in _COUNTS
            if is_number and each.name not in _NO_MEASURES and not each.name.endswith(_ENDINGS_OF_ERRORS):
                found.setdefault(each.name, Measure(view, each.name))
    return found


def effect_title(effect: str) -> str:
    """One of `EFFECTS` in words, with its unit."""
    return f"{effect_words(effect)} [{column('tail_curve', 'value').unit}]"

"""What a page shows: a run, an ablation, the rows used, and the SQL conditions for them."""

from collections.abc import Mapping
from dataclasses import dataclass

from selfrepair.queries.catalog.quoting import literal
from selfrepair.queries.catalog.which_run import Run

POPULATIONS = {
    "top2": "top 2 % by direct effect",
    "top2_nobos": "top 2 %, without position 0",
    "all": "all rows",
}
"""The rows of a head that are used, by the name of the population in the views."""

UNITS = ("logits", "fraction of direct effect")
"""Units of self-repair that pages offer."""


def has(run: Run, name: str) -> bool:
    """Whether a run has the component or column: those of the post-norm only where its model has post-norms."""
    return bool(run["post_norms"]) or "post_norm" not in name.replace("-", "_")


@dataclass(frozen=True)
class Choice:
    """A run (a row of `which_run.RUNS`), an ablation and a population."""

    run: Run
    ablation: str
    population: str

    @property
    def where(self) -> str:
        """The condition on rows of a view with populations."""
        return f"{self.where_rows} AND population = {literal(self.population)}"

    @property
    def where_rows(self) -> str:
        """The same for views without populations, such as those of single rows."""
        return f"run_id = {self.run['run_id']} AND ablation = {literal(self.ablation)}"

    def has(self, name: str) -> bool:
        """Whether the run has the component or column (`has`)."""
        return has(self.run, name)

    def only(self, columns: Mapping[str, str]) -> dict[str, str]:
        """Those of `columns`, by component, that the run has."""
        return {name: column for name, column in columns.items() if self.has(name)}

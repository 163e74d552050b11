"""What is looked at: a run, an ablation, a population, and the conditions that its rows meet."""

from dataclasses import dataclass

from selfrepair.queries.catalog.quoting import literal
from selfrepair.queries.catalog.which_run import Run

POPULATIONS = {
    "top2": "each head's top 2 %",
    "top2_nobos": "the same without position 0",
    "all": "all positions",
}


@dataclass(frozen=True)
class Choice:
    """One run, ablation and population. `run` is a row of `which_run.RUNS`."""

    run: Run
    ablation: str
    population: str

    @property
    def where(self) -> str:
        """The condition that a view with a population has to meet."""
        return f"{self.where_rows} AND population = {literal(self.population)}"

    @property
    def where_rows(self) -> str:
        """The same for views of rows, which know no population."""
        return f"run_id = {self.run['run_id']} AND ablation = {literal(self.ablation)}"

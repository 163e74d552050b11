"""What decides a run's numbers, beside its model and prompts."""

from collections.abc import Sequence
from dataclasses import dataclass

from selfrepair.ingest.conventions import PRECISIONS, Precision
from selfrepair.ingest.request.mechanisms import Mechanisms
from selfrepair.warehouse.schema import NEURON_POPULATIONS


@dataclass(frozen=True)
class RunSettings:
    """Every head of `heads` (layer, head) is ablated in every way of `ablations`.

    The heads `given` are ablated in both forwards; `seed` decides self-repression's controls and the sampled rows. Heads
    are kept in order. Neurons are read in each of `neuron_populations`, the first one or both of `schema.NEURON_POPULATIONS`.
    """

    ablations: Sequence[str]
    heads: Sequence[tuple[int, int]]
    given: Sequence[tuple[int, int]] = ()
    mechanisms: Mechanisms = Mechanisms()  # noqa: RUF009 - it is frozen
    seed: int = 0
    precision: Precision = PRECISIONS["float32"]
    neuron_populations: Sequence[str] = NEURON_POPULATIONS

    def __post_init__(self) -> None:
        object.__setattr__(self, "ablations", tuple(self.ablations))
        object.__setattr__(self, "heads", tuple(sorted(self.heads)))
        object.__setattr__(self, "given", tuple(sorted(self.given)))

    @property
    def top_populations(self) -> Sequence[str]:
        """The populations whose rows must be known before measuring begins, where a mechanism needs any."""
        return self.neuron_populations if self.mechanisms.neurons != "none" else NEURON_POPULATIONS[:1]

    @property
    def n_head_ablations(self) -> int:
        """Heads times ablations."""
        return len(self.heads) * len(self.ablations)

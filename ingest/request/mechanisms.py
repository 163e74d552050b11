"""What a run measures beside the effects: edges, neurons, logit lens, log-probabilities, self-repression."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from selfrepair.warehouse.errors import SelfRepairError

if TYPE_CHECKING:
    from selfrepair.ingest.models.adapter import Atlas


@dataclass(frozen=True)
class Mechanisms:
    """Which mechanisms are measured. `neurons` says of which MLPs: the last one, all above the ablated head, or none."""

    edges: bool = False
    neurons: str = "none"
    logit_lens: bool = False
    logprobs: bool = False
    self_repression: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """As `runs.mechanisms` holds them (`schema.MECHANISMS`)."""
        chosen = {
            "edges": self.edges,
            f"neurons_{self.neurons}": self.neurons != "none",
            "logit_lens": self.logit_lens,
            "logprobs": self.logprobs,
            "self_repression": self.self_repression,
        }
        return tuple(name for name, is_chosen in chosen.items() if is_chosen)

    @property
    def need_top_rows(self) -> bool:
        """Whether each head's top 2 % rows must be known before measuring begins."""
        return self.edges or self.neurons != "none"

    def neuron_layers(self, atlas: "Atlas") -> tuple[int, ...]:
        """The MLPs whose neurons are measured. Raises SelfRepairError where the model has none that can be read."""
        if self.neurons == "none":
            return ()
        layers = (atlas.n_layers - 1,) if self.neurons == "last" else tuple(range(atlas.n_layers))
        for layer in layers:
            if atlas.blocks[layer].mlp_output is None:
                raise SelfRepairError(
                    f"the MLP of layer {layer} has no single output projection, so that its neurons cannot be read. "
                    "Measure without them: --neurons none"
                )
        return layers

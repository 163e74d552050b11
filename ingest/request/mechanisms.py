"""Which mechanisms a run measures: edges, neurons, experts, logit lens, log-probabilities, self-repression."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from selfrepair.warehouse.errors import SelfRepairError, in_words

if TYPE_CHECKING:
    from torch import nn

    from selfrepair.ingest.models.adapter import ModelAdapter


NEURONS = ("last", "all", "none")
"""MLPs whose neurons are measured: the last one, all above the ablated head, or none."""


@dataclass(frozen=True)
class Mechanisms:
    """Which mechanisms are measured; `neurons` is one of `NEURONS`."""

    edges: bool = False
    neurons: str = "none"
    experts: bool = False
    logit_lens: bool = False
    logprobs: bool = False
    self_repression: bool = False

    def __post_init__(self) -> None:
        if self.neurons not in NEURONS:
            raise SelfRepairError(f"neurons {self.neurons!r} is unknown. Choose from {', '.join(NEURONS)}.")

    @property
    def names(self) -> tuple[str, ...]:
        """The values of `runs.mechanisms` (`schema.MECHANISMS`)."""
        chosen = {
            "edges": self.edges,
            f"neurons_{self.neurons}": self.neurons != "none",
            "experts": self.experts,
            "logit_lens": self.logit_lens,
            "logprobs": self.logprobs,
            "self_repression": self.self_repression,
        }
        return tuple(name for name, is_chosen in chosen.items() if is_chosen)

    @property
    def need_top_rows(self) -> bool:
        """Whether each head's top 2 % of rows must be known before measuring begins."""
        return self.edges or self.experts or self.neurons != "none"

    def available(self, adapter: "ModelAdapter") -> tuple["Mechanisms", list[str]]:
        """These without the defaults that the model lacks, and a line for each that was left out."""
        found, notes = self, []
        if self.neurons == "last" and adapter.blocks[-1].mlp_output is None:
            found = replace(found, neurons="none")
            why = "is a mixture of experts, without" if _has_experts(adapter.blocks[-1].module) else "does not end in"
            notes.append(f"Neurons are not measured: the last MLP {why} one output projection.")
        if self.edges and any(block.output_projection is None for block in adapter.blocks):
            found = replace(found, edges=False)
            notes.append("Who repairs whom is not measured: some layers of this model have no attention heads.")
        besides = any(block.beside for block in adapter.blocks)
        if found.edges and besides:
            found = replace(found, edges=False)
            notes.append(
                "Who repairs whom is not measured: heads are not all that changes where attention adds to the stream."
            )
        if found.edges and len({block.n_heads for block in adapter.blocks}) > 1:
            found = replace(found, edges=False)
            notes.append("Who repairs whom is not measured: layers of this model have different numbers of heads.")
        if found.neurons != "none" and any(block.branch for block in adapter.blocks):
            found = replace(found, neurons="none")
            notes.append("Neurons are not measured: what layers add after the MLP counts as the MLP's, and has none.")
        if self.self_repression and (besides or any(block.mixing for block in adapter.blocks)):
            found = replace(found, self_repression=False)
            notes.append("Self-repression is not measured: more than attention reads earlier positions.")
        if self.experts and not any(block.experts for block in adapter.blocks):
            found = replace(found, experts=False)
            if any(_has_experts(block.module) for block in adapter.blocks):
                notes.append("Re-routing is not measured: what each expert of this model adds cannot be told apart.")
        return found, notes

    def routed_layers(self, adapter: "ModelAdapter") -> tuple[int, ...]:
        """The MLPs whose experts are measured: those that have routed experts. Raises SelfRepairError where no MLP has."""
        layers = tuple(layer for layer, block in enumerate(adapter.blocks) if block.experts is not None)
        if self.experts and not layers:
            raise SelfRepairError(
                "this model has no routed experts to measure. "
                + in_words("Use --no-experts.", 'Leave "experts" out of mechanisms.')
            )
        return layers if self.experts else ()

    def neuron_layers(self, adapter: "ModelAdapter") -> tuple[int, ...]:
        """The MLPs whose neurons are measured. Raises SelfRepairError where the model has none."""
        if self.neurons == "none":
            return ()
        layers = (adapter.n_layers - 1,) if self.neurons == "last" else tuple(range(adapter.n_layers))
        for layer in layers:
            if adapter.blocks[layer].mlp_output is None:
                raise SelfRepairError(
                    f"the MLP of layer {layer} has no single output projection, and so no neurons to measure. "
                    + in_words("Use --neurons none.", 'Leave "neurons_last" and "neurons_all" out of mechanisms.')
                )
        return layers


def _has_experts(block: "nn.Module") -> bool:
    """Whether a block has modules that are called experts."""
    return any(type(module).__name__.endswith("Experts") for module in block.modules())

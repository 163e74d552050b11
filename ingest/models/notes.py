"""What counts as what in a model, in sentences for the user."""

from selfrepair.ingest.models.adapter import ModelAdapter


def notes_on(adapter: ModelAdapter) -> tuple[str, ...]:
    """The sentences; none for most models."""
    found = []
    if adapter.multiplies_stream:
        found.append(
            "Layers of this model multiply the residual stream: the effect of what one adds is that of what is left of it at "
            "the final norm."
        )
    if any(block.branch is not None for block in adapter.blocks):
        found.append("What layers of this model add to the stream after the MLP counts as the MLP's.")
    if besides := {type(one.module).__name__ for block in adapter.blocks for one in block.beside}:
        found.append(f"What {' and '.join(sorted(besides))} adds beside attention counts as attention's.")
    if any(block.mixing is not None for block in adapter.blocks):
        found.append(
            "What attention makes is convolved over positions before it is added: a head's direct effect at a position is that "
            "of its outputs there and at the positions that the convolution reaches back to."
        )
    return tuple(found)

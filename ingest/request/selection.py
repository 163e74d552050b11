"""Parse options: heads, ablations, a shard. Without torch, so that mistakes are reported at once."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from selfrepair.ingest.conventions import ABLATIONS, head_label
from selfrepair.ingest.terms import option
from selfrepair.warehouse.errors import SelfRepairError, in_words


@dataclass(frozen=True)
class Shard:
    """The `index`-th (from 1) of `count` machines or processes that share a run's units."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def has(self, unit: int) -> bool:
        """Whether this shard measures the unit of that number."""
        return unit % self.count == self.index - 1


LARGEST_SEED = 2**63 - 1
"""What the column `runs.seed` holds."""


def check_seed(seed: int) -> None:
    """Raise SelfRepairError for a number that is no seed."""
    if not 0 <= seed <= LARGEST_SEED:
        raise SelfRepairError(f"{option('seed', seed)} is not a seed. Use a whole number from 0 to {LARGEST_SEED}.")


def parse_ablations(text: str) -> tuple[str, ...]:
    """`resample,mean` -> the ablation types, in the order of `ABLATIONS`."""
    names = _parts(text)
    for name in names:
        if name not in ABLATIONS:
            raise SelfRepairError(f"{option('ablation')} {name} is unknown. Choose from {', '.join(ABLATIONS)}.")
    if not names:
        raise SelfRepairError(f"{option('ablation')} is empty. Choose from {', '.join(ABLATIONS)}.")
    return tuple(name for name in ABLATIONS if name in names)


def parse_heads(layers: str | None, heads: str | None, n_layers: int, n_heads: int) -> list[tuple[int, int]]:
    """All heads of `layers` (`0,4-7`) and the single `heads` (`L9H6,L9H9`); every head of the model where both are None."""
    if layers is None and heads is None:
        return [(layer, head) for layer in range(n_layers) for head in range(n_heads)]
    chosen: set[tuple[int, int]] = set()
    for part in _parts(layers):
        first, last = _range(part)
        if last >= n_layers:
            raise SelfRepairError(
                f"{option('layers')} {part} is not in the model, which has layers 0 to {n_layers - 1}."
            )
        chosen.update((layer, head) for layer in range(first, last + 1) for head in range(n_heads))
    chosen.update(_heads("heads", heads, n_layers, n_heads))
    return sorted(chosen)


def those_with_heads(
    chosen: Sequence[tuple[int, int]], heads: str | None, given: str | None, of_model: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """The chosen heads that the model has: some layers may mix positions without heads. `heads` and `given` are those named one
    by one.

    Raises SelfRepairError for a named head that the model lacks, and where none is left.
    """
    lacking = [
        f"{option(name)} {head_label(*head)}"
        for name, text in (("heads", heads), ("given", given))
        for head in _heads(name, text, None, None)
        if head not in of_model
    ]
    found = [head for head in chosen if head in set(of_model)]
    if lacking or not found:
        asked = lacking[0] if lacking else option("layers")
        layers = ", ".join(str(layer) for layer in sorted({layer for layer, _ in of_model}))
        raise SelfRepairError(
            f"{asked}: the layers of this model with attention heads are {layers}. Choose from these."
        )
    return found


def check_heads(layers: str | None, heads: str | None, given: str | None) -> None:
    """Raise SelfRepairError for options that are no layers or heads of any model, or that ablate a head twice."""
    ranges = [_range(part) for part in _parts(layers)]
    named = _heads("heads", heads, None, None)
    if (layers is not None or heads is not None) and not (ranges or named):
        raise SelfRepairError(
            f"{option('layers')} and {option('heads')} are empty. Leave them out to measure every head."
        )
    twice = sorted(set(named).intersection(_heads("given", given, None, None)))
    if twice:
        label = head_label(*twice[0])
        raise SelfRepairError(
            f"{label} is in {option('heads')} and in {option('given')}: it cannot be ablated twice. Take it out of one."
        )


def parse_given(
    text: str | None, ablations: Sequence[str], n_layers: int | None, n_heads: int | None
) -> tuple[tuple[int, int], ...]:
    """`L9H6,L9H9` -> the co-ablated heads, in order; within the model's sizes where those are known."""
    given = tuple(sorted(set(_heads("given", text, n_layers, n_heads))))
    if text is not None and not given:
        raise SelfRepairError(f"{option('given')} is empty. Leave it out, or write for example L9H6,L9H9.")
    if given and len(ablations) > 1:
        raise SelfRepairError(
            f"{option('given')} needs a single {in_words('--ablation', 'ablation')}, such as "
            f"{option('ablation', ablations[0])}: each type is a run of its own."
        )
    return given


def without_given(heads: Sequence[tuple[int, int]], given: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The heads without the co-ablated ones."""
    left = [head for head in heads if head not in given]
    if not left:
        raise SelfRepairError(
            f"{option('given')} leaves no head to ablate. Name fewer heads there, or more with {option('layers')}."
        )
    return left


def parse_shard(text: str | None) -> Shard:
    """`2/3` -> the second of three."""
    if text is None:
        return Shard(1, 1)
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise SelfRepairError(
            f"--shard {text} is not i/n with i from 1 to n. Three machines use 1/3, 2/3 and 3/3; or auto."
        )
    return Shard(int(match[1]), int(match[2]))


def parse_batch_size(text: str) -> int | None:
    """`auto` -> None, otherwise the number of sequences."""
    if text == "auto":
        return None
    if not text.isdigit() or int(text) < 1:
        raise SelfRepairError(f"--batch-size {text} is neither auto nor a whole number from 1.")
    return int(text)


def check_crosscheck(cells: int | None) -> None:
    """Raise SelfRepairError for a number of cells that would leave a run unchecked."""
    if cells is not None and cells < 1:
        raise SelfRepairError(
            f"--crosscheck {cells} would leave the run unchecked, and every run is. Give 1 or more, or leave it out."
        )


def _range(part: str) -> tuple[int, int]:
    """First and last layer of a part of --layers."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
    if match is None:
        raise SelfRepairError(
            f"{option('layers')} {part} is not a layer or a range of layers. Write for example 0,4-7."
        )
    first, last = int(match[1]), int(match[2] or match[1])
    if first > last:
        raise SelfRepairError(f"{option('layers')} {part} ends before it begins. Write for example 4-7.")
    return first, last


def _heads(name: str, text: str | None, n_layers: int | None, n_heads: int | None) -> list[tuple[int, int]]:
    """The heads that the option `name` lists, within the model's sizes where those are known."""
    found = []
    for part in _parts(text):
        match = re.fullmatch(r"[Ll](\d+)[Hh](\d+)", part)
        if match is None:
            raise SelfRepairError(f"{option(name)} {part} is not a head. Write for example L9H6,L9H9.")
        layer, head = int(match[1]), int(match[2])
        if n_layers is not None and n_heads is not None and (layer >= n_layers or head >= n_heads):
            raise SelfRepairError(
                f"{option(name)} {part} is not in the model, whose heads go from L0H0 to L{n_layers - 1}H{n_heads - 1}."
            )
        found.append((layer, head))
    return found


def _parts(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]

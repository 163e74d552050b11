"""Which heads a run measured, in few words."""

import re
from collections.abc import Sequence
from itertools import groupby

_MOST_NAMED = 6
_LABEL = re.compile(r"L(\d+)H(\d+)")


def short_heads(labels: Sequence[str], n_layers: int, n_heads: int) -> str:
    """`all`, or whole layers as ranges and other heads by name, as in `layers 0, 4-7, L9H6`; many others are counted."""
    heads_of: dict[int, list[str]] = {}
    for label in labels:
        match = _LABEL.fullmatch(label)
        if match is None:
            raise ValueError(f"{label!r} is not a head's name, such as L9H6")
        heads_of.setdefault(int(match[1]), []).append(label)
    whole = sorted(layer for layer, heads in heads_of.items() if len(heads) == n_heads)
    if len(whole) == n_layers:
        return "all"
    others = [label for layer, heads in sorted(heads_of.items()) if layer not in whole for label in heads]
    if len(others) > _MOST_NAMED:
        others = [f"{len(others)} single heads"]
    layers = "layer" if len(whole) == 1 else "layers"
    return ", ".join(([f"{layers} {_ranges(whole)}"] if whole else []) + others)


def _ranges(layers: Sequence[int]) -> str:
    """`0, 4-7`."""
    runs = [[layer for _, layer in run] for _, run in groupby(enumerate(layers), lambda pair: pair[1] - pair[0])]
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)

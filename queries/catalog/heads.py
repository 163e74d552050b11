"""Heads by their names: L9H6 is head 6 of layer 9."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from selfrepair.warehouse.errors import SelfRepairError

Place = tuple[int, int]
"""Layer and head, each from 0."""

_LABEL = re.compile(r"\s*L(\d+)H(\d+)\s*", re.IGNORECASE)


def place_of(label: object) -> Place | None:
    """Layer and head of a name such as L9H6; None for anything else."""
    match = _LABEL.fullmatch(label) if isinstance(label, str) else None
    return (int(match[1]), int(match[2])) if match else None


def split_label(given: Mapping[str, Any]) -> dict[str, Any]:
    """The same values with `head="L9H6"` as layer 9 and head 6. Raises SelfRepairError when a layer contradicts it."""
    head = given.get("head")
    place = place_of(head)
    if place is None:
        return dict(given)
    layer = given.get("layer", place[0])
    if str(layer) != str(place[0]):
        raise SelfRepairError(
            f"{head} is a head of layer {place[0]}, and layer={layer} was given. Leave out the layer."
        )
    return {**given, "layer": place[0], "head": place[1]}


def split_labels(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[Place]]:
    """The values without a `head` that lists names, and the places of those heads; one name as `split_label` has it.

    Raises SelfRepairError for a list of names with anything else in it or beside a layer, and for a text that is neither
    a name nor a number.
    """
    head = given.get("head")
    listed = head if isinstance(head, list) else [head]
    places = [place_of(one) for one in listed]
    wrong = [one for one, place in zip(listed, places, strict=True) if place is None and isinstance(one, str)]
    wrong = [one for one in wrong if not one.strip().isdecimal()]
    if wrong or (isinstance(head, list) and any(places) and (None in places or "layer" in given)):
        shown = f"'{wrong[0]}' is no head" if wrong else "names of heads stand for their layers, too"
        raise SelfRepairError(f"{shown}. Give names alone, such as head=L9H6, or numbers with their layer.")
    if isinstance(head, list) and any(places):
        return {key: value for key, value in given.items() if key != "head"}, [place for place in places if place]
    return split_label(given), []


def among(places: Sequence[Place]) -> str:
    """SQL that is true of these heads; layer and head alone come first, for they let DuckDB skip what is stored apart."""
    layers, heads = (", ".join(map(str, sorted(set(numbers)))) for numbers in zip(*places, strict=True))
    pairs = ", ".join(map(str, places))
    return f"layer IN ({layers}) AND head IN ({heads}) AND (layer, head) IN ({pairs})"

"""Tables and views of the catalogue as text for a terminal."""

import textwrap
from collections.abc import Iterable

from selfrepair.queries.catalog import Relation

_GAP = "  "
_NARROWEST_TEXT = 30


def listing(relations: Iterable[Relation], width: int) -> str:
    """Every view and table with its summary, `width` characters wide; what other views are made of comes last."""
    shown = sorted(relations, key=lambda relation: (relation.is_building_block, relation.name))
    blocks = []
    for heading, kind in (("Views", "view"), ("Tables", "table")):
        rows = [(relation.name, relation.summary) for relation in shown if relation.kind == kind]
        blocks.append(f"{heading}:\n{_wrapped(rows, width)}")
    return "\n\n".join(blocks)


def description(relation: Relation, width: int) -> str:
    """What the relation is and what every column means, `width` characters wide."""
    about = [f"{relation.name} ({relation.kind}): {relation.summary}"]
    if relation.kind == "view":
        about.append(f"One row for each {', '.join(relation.grain)}. Paper: {relation.paper}.")
    about += relation.notes
    rows = [("column", "type", "unit", "meaning")]
    rows += [(column.name, column.type, column.unit, column.description) for column in relation.columns]
    return "\n\n".join([*(textwrap.fill(text, width) for text in about), _wrapped(rows, width)])


def _wrapped(rows: Iterable[tuple[str, ...]], width: int) -> str:
    """The rows side by side, indented, the last column wrapped into what the others leave of `width`."""
    *fixed, texts = zip(*rows, strict=True)
    widths = [max(map(len, cells)) for cells in fixed]
    indent = sum(widths) + len(_GAP) * (len(widths) + 1)
    lines = []
    for cells, text in zip(zip(*fixed, strict=True), texts, strict=True):
        first, *rest = textwrap.wrap(text, max(_NARROWEST_TEXT, width - indent))
        start = "".join(_GAP + cell.ljust(size) for cell, size in zip(cells, widths, strict=True))
        lines.append(f"{start}{_GAP}{first}")
        lines += [" " * indent + line for line in rest]
    return "\n".join(lines)

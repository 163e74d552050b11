"""Tables, views and questions as text: for a terminal, and as the tables of a page in Markdown."""

import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from selfrepair.queries.catalog.parameters import Parameter
from selfrepair.queries.catalog.questions import Question, command
from selfrepair.queries.catalog.relations import Relation

T = TypeVar("T")

_GAP = "  "
_NARROWEST_TEXT = 30
_MARKDOWN = re.compile(r"[|*]|\b_(?!\w)|(?<!\w)_")
"""What Markdown would not print as it stands: ends of cells, stars, and underscores at either end of a word."""


TABLES = "Tables"
BLOCKS = "Building blocks, which other views are made of"

_FIRST_TOPIC = "self_repair"


def grouped(relations: Iterable[Relation]) -> dict[str, list[Relation]]:
    """The relations by topic, a heading for each: views by the folder of their files, then tables, then building blocks."""
    shown = sorted(relations, key=lambda relation: relation.name)
    views = [relation for relation in shown if relation.kind == "view" and not relation.is_building_block]
    groups = by_topic(views, lambda relation: relation.topic)
    groups[TABLES] = [relation for relation in shown if relation.kind == "table"]
    groups[BLOCKS] = [relation for relation in shown if relation.is_building_block]
    return {heading: group for heading, group in groups.items() if group}


def by_topic(found: Iterable[T], topic_of: Callable[[T], str]) -> dict[str, list[T]]:
    """What was found under a heading for each topic, self-repair first."""
    topics: dict[str, list[T]] = {}
    for one in sorted(found, key=lambda one: (topic_of(one) != _FIRST_TOPIC, topic_of(one))):
        topics.setdefault(_heading(topic_of(one)), []).append(one)
    return topics


def _heading(topic: str) -> str:
    """`self_repair` is 'Self-repair', `logit_lens` 'Logit lens'."""
    return topic.replace("self_", "self-").replace("_", " ").capitalize().replace("Layernorm", "LayerNorm")


def public(relations: Iterable[Relation]) -> list[Relation]:
    """The relations in the order of their groups, without those that are only there for views to read."""
    return [relation for heading, group in grouped(relations).items() if heading != BLOCKS for relation in group]


def listing(relations: Iterable[Relation], width: int) -> str:
    """Every view and table with its summary, `width` characters wide; what other views are made of comes last."""
    blocks = []
    for heading, group in grouped(relations).items():
        rows = [(relation.name, _summary(relation)) for relation in group]
        blocks.append(f"{heading}:\n{_wrapped(rows, width)}")
    return "\n\n".join(blocks)


def description(relation: Relation, width: int) -> str:
    """What the relation is and what every column means, `width` characters wide."""
    about = [f"{relation.name} ({relation.kind}): {relation.summary}", *_details(relation)]
    return "\n\n".join([*(textwrap.fill(text, width) for text in about), _columns(relation, width)])


def question_listing(questions: Iterable[Question], width: int) -> str:
    """Every question by topic in a sentence, `width` characters wide, with the parameters that have to be given."""
    blocks = []
    for heading, group in by_topic(questions, lambda question: question.view.topic).items():
        rows = []
        for question in group:
            needed = [parameter.name for parameter in question.parameters.values() if parameter.required]
            rows.append((question.name, question.view.summary + (f" Needs {', '.join(needed)}." if needed else "")))
        blocks.append(f"{heading}:\n{_wrapped(rows, width)}")
    return "\n\n".join(blocks)


def question_description(question: Question, answer: Relation, width: int) -> str:
    """What the question answers and takes, and what every column of its `answer` means, `width` characters wide."""
    about = [f"{question.name} (question): {question.view.summary}", *_details(answer)]
    texts = [textwrap.fill(text, width) for text in about]
    if question.parameters:
        rows = [("parameter", "type", "unit", "if left out", "meaning")]
        rows += [
            (parameter.name, parameter.sql_type, parameter.unit, _default(parameter), _meaning(parameter))
            for parameter in question.parameters.values()
        ]
        texts.append(_wrapped(rows, width))
    return "\n\n".join([*texts, _columns(answer, width), f"Run it: {command(question)}"])


def markdown_summaries(relations: Iterable[Relation]) -> str:
    """Name and summary of each relation as a table in Markdown."""
    return markdown_table(
        ("table or view", "what it is"), [(f"`{relation.name}`", relation.summary) for relation in relations]
    )


def markdown_columns(relation: Relation) -> str:
    """What the relation is and what every column means, in Markdown below the heading that the caller writes."""
    rows = [(f"`{column.name}`", column.type, column.unit, column.description) for column in relation.columns]
    about = [relation.summary, *_details(relation)]
    return "\n\n".join([*map(_escaped, about), markdown_table(("column", "type", "unit", "meaning"), rows)])


def markdown_table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; what would end a cell is escaped."""
    lines = [heading, ["---"] * len(heading), *([_escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _columns(relation: Relation, width: int) -> str:
    rows = [("column", "type", "unit", "meaning")]
    for column in relation.columns:
        kind, bracket, values = column.type.partition("(")
        is_enum = kind == "ENUM" and bracket
        meaning = f"{column.description} ({values}" if is_enum else column.description
        rows.append((column.name, kind if is_enum else column.type, column.unit, meaning))
    return _wrapped(rows, width)


def _details(relation: Relation) -> list[str]:
    if relation.kind == "table":
        return []
    shown = [f"Shown first: {', '.join(relation.headline)}."] if relation.headline else []
    return [f"One row for each {', '.join(relation.grain)}. Paper: {relation.paper}.", *relation.notes, *shown]


def _default(parameter: Parameter) -> str:
    if parameter.required:
        return "(needed)"
    return "NULL" if parameter.default is None else str(parameter.default)


def _meaning(parameter: Parameter) -> str:
    return f"{parameter.description} ({parameter.takes})" if parameter.choices else parameter.description


def _escaped(text: str) -> str:
    return _MARKDOWN.sub(r"\\\g<0>", text)


def _summary(relation: Relation) -> str:
    text = relation.summary.removeprefix("Building block:").strip()
    return text[:1].upper() + text[1:]


def _wrapped(rows: Iterable[tuple[str, ...]], width: int) -> str:
    """The rows side by side, indented, the last column wrapped into what the others leave of `width`."""
    rows = list(rows)
    if not rows:
        return ""
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

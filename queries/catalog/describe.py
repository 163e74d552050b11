"""Tables, views and questions as text: for a terminal, and as the tables of a page in Markdown."""

import re
import textwrap
from collections.abc import Iterable, Sequence

from selfrepair.queries.catalog.questions import Parameter, Question
from selfrepair.queries.catalog.relations import Relation

_GAP = "  "
_NARROWEST_TEXT = 30
_MARKDOWN = re.compile(r"[|*]|\b_(?!\w)|(?<!\w)_")
"""What Markdown would not print as it stands: ends of cells, stars, and underscores at either end of a word."""


GROUPS = {
    "Self-repair": ("model_repair", "layer_repair", "head_repair", "prompt_repair", "self_repair", "top_effect"),
    "What it depends on": ("repair_sensitivity", "repair_by_token"),
    "LayerNorm": ("layernorm_ratio", "layernorm_histogram", "frozen_layernorm"),
    "Who repairs": ("who_repairs", "backup_heads", "repair_matrix", "co_ablation"),
    "Neurons": ("neuron_summary", "neuron_sparsity", "anti_erasure", "neuron_consistency", "neuron_top_rows"),
    "Iterative inference": ("logit_lens_by_layer", "repair_by_logit_lens", "self_repression_slope"),
    "Noise and heavy tails": ("head_noise", "head_tail", "tail_curve", "lorenz_curve", "hill_curve"),
    "Agreement": (
        *("importance_rank", "rank_agreement", "ablation_agreement"),
        *("head_measures", "measure_agreement"),
    ),
    "Against the paper": (
        *("reproduction_claims", "reproduction_agreement", "reproduction", "published_agreement"),
        "self_repression_reproduction",
    ),
    "Over training": ("repair_over_training",),
    "Can it be trusted": ("run_health",),
}
"""The views to be asked, by what they are about."""

OTHERS = "Other views"
TABLES = "Tables"
BLOCKS = "Building blocks, which the views are made of"


def grouped(relations: Iterable[Relation]) -> dict[str, list[Relation]]:
    """The relations by what they are about, a heading for each group: views, then tables, then building blocks."""
    left = {relation.name: relation for relation in sorted(relations, key=lambda relation: relation.name)}
    groups = {heading: [left.pop(name) for name in names if name in left] for heading, names in GROUPS.items()}
    blocks = [relation for relation in left.values() if relation.is_building_block]
    tables = [relation for relation in left.values() if relation.kind == "table"]
    others = [relation for relation in left.values() if relation not in (*blocks, *tables)]
    groups |= {OTHERS: others, TABLES: tables, BLOCKS: blocks}
    return {heading: group for heading, group in groups.items() if group}


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
    """Every question in a sentence, `width` characters wide, with the parameters that have to be given."""
    rows = []
    for question in questions:
        needed = [parameter.name for parameter in question.parameters.values() if parameter.required]
        rows.append((question.name, question.view.summary + (f" Needs {', '.join(needed)}." if needed else "")))
    return _wrapped(rows, width)


def question_description(question: Question, answer: Relation, width: int) -> str:
    """What the question asks and takes, and what every column of its `answer` means, `width` characters wide."""
    about = [f"{question.name} (question): {question.view.summary}", *_details(answer)]
    texts = [textwrap.fill(text, width) for text in about]
    if question.parameters:
        rows = [("parameter", "type", "unit", "if left out", "meaning")]
        rows += [
            (parameter.name, parameter.sql_type, parameter.unit, _default(parameter), _meaning(parameter))
            for parameter in question.parameters.values()
        ]
        texts.append(_wrapped(rows, width))
    return "\n\n".join([*texts, _columns(answer, width), f"Ask it: {_command(question)}"])


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
    return [f"One row for each {', '.join(relation.grain)}. Paper: {relation.paper}.", *relation.notes]


def _default(parameter: Parameter) -> str:
    if parameter.required:
        return "(needed)"
    return "NULL" if parameter.default is None else str(parameter.default)


def _meaning(parameter: Parameter) -> str:
    return f"{parameter.description} ({parameter.takes})" if parameter.choices else parameter.description


def _command(question: Question) -> str:
    needed = [parameter for parameter in question.parameters.values() if parameter.required]
    return " ".join(["selfrepair query", question.name, *(f"--param {parameter.name}=..." for parameter in needed)])


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

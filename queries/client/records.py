"""What there is to query, as plain records for programs: the same fields on the command line, over HTTP and for assistants."""

from typing import Any

from selfrepair.queries.catalog import questions as library
from selfrepair.queries.catalog import relations as catalog
from selfrepair.queries.catalog.questions import Question
from selfrepair.warehouse.errors import UnknownNameError

Record = dict[str, Any]


def record_of(name: str) -> Record:
    """A table, view or question with its columns and parameters. Raises UnknownNameError with the nearest names."""
    name = name.lower()
    if name in library.questions():
        asked, relation = library.question(name), library.answer(name)
        head = {"name": name, "kind": "question", "summary": asked.view.summary}
        return head | {"parameters": parameters_of(asked), "columns": _columns(relation)}
    if name in catalog.relations():
        relation = catalog.describe(name)
        head = {"name": name, "kind": relation.kind, "summary": relation.summary}
        return head | {"grain": list(relation.grain), "columns": _columns(relation)}
    raise UnknownNameError(catalog.unknown_name(name, catalog.relations(), library.questions()))


def parameters_of(asked: Question) -> list[Record]:
    """What a question takes."""
    return [
        {
            "parameter": each.name,
            "type": each.sql_type,
            "unit": each.unit,
            "required": each.required,
            "default": each.default,
            "choices": list(each.choices),
            "meaning": each.description,
        }
        for each in asked.parameters.values()
    ]


def _columns(relation: catalog.Relation) -> list[Record]:
    return [
        {"column": each.name, "type": each.type, "unit": each.unit, "meaning": each.description}
        for each in relation.columns
    ]

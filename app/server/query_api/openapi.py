"""The OpenAPI 3.1 document of the HTTP API, made from the catalogue: every question with its parameters."""

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

from selfrepair.app.server.query_api import contents
from selfrepair.app.server.query_api.formats import FORMATS, MEDIA_TYPES
from selfrepair.app.server.query_api.parameters import AS_OF, COLUMNS, LIMIT, OFFSET, QUERY, ROWS_OF_PAGE
from selfrepair.app.server.query_api.problems import MEDIA_TYPE
from selfrepair.queries.catalog.parameters import Parameter
from selfrepair.queries.catalog.questions import questions
from selfrepair.queries.sandbox.fence import LONGEST_QUERY
from selfrepair.queries.sandbox.served import MAX_ROWS

Json = dict[str, Any]

_ABOUT = """Read-only. Every address answers rows: as JSON, or as its ending says (`.json`, `.csv`, `.parquet`, `.arrow`), or \
as Accept asks where it has none. Rows come in pages, in an order that stays the same while the file does; the header Link \
leads to the next page. An ETag changes with the file. What is wrong is answered as application/problem+json, whose `detail` \
ends with the next step."""

_TYPES: Mapping[str, Json] = {
    "VARCHAR": {"type": "string"},
    "INTEGER": {"type": "integer"},
    "DOUBLE": {"type": "number"},
    "BOOLEAN": {"type": "boolean"},
    "RUN": {"type": "string", "description": "A run's number or name."},
}

_ERRORS = {
    "400": "A parameter, a name in it or the SQL is wrong.",
    "403": "Refused at the door: another host or site, or no token.",
    "404": "There is nothing of this name.",
    "406": "Rows do not come in a format that Accept takes.",
    "409": "The file has changed since the page that as_of is of.",
    "416": "The answer has none of the bytes that Range asks for.",
    "422": "The query needs more time or memory than it may have.",
    "503": "The warehouse is being written, or cannot be read; Retry-After says when to ask again.",
}


def document(root: str) -> Json:
    """The document, whose paths are below `root`."""
    paths: dict[str, Json] = {
        "/": _get("What there is", _json("Addresses by name."), [], ()),
        "/openapi.json": _get("This document", _json("OpenAPI 3.1."), [], ()),
        "/docs": _get("These addresses as a page", {"description": "A page.", "content": {"text/html": {}}}, [], ()),
    }
    errors = tuple(_ERRORS)
    for ending in ("", ".{format}"):
        format_of = [_FORMAT] if ending else []
        for what, about in contents.LISTINGS.items():
            paths[f"/{what}{ending}"] = _get(about, _rows(ending), [*format_of, *_PAGING], errors)
        for what, about in contents.NAMED.items():
            if what != "questions":
                shown = [*_FILTERS] if what in ("tables", "views") else []
                parameters = [_name(what), *format_of, *_PAGING, *shown]
                paths[f"/{what}/{{name}}{ending}"] = _get(about, _rows(ending), parameters, errors)
        for question in questions().values():
            parameters = [*format_of, *_PAGING, *map(_parameter, question.parameters.values())]
            paths[f"/questions/{question.name}{ending}"] = _get(
                question.view.summary, _rows(ending), parameters, errors
            )
        asked = _get("The answer to SQL", _rows(ending), [_SQL, *format_of, *_PAGING], (*errors, "414"))
        posted = _get("The answer to long SQL", _rows(ending), [*format_of, *_PAGING], (*errors, "413", "415"))
        text = {
            "schema": {"type": "string", "minLength": 1},
            "example": "SELECT count(*) FROM runs",
        }
        posted["get"]["requestBody"] = {"required": True, "content": {"text/plain": text}}
        paths[f"/sql{ending}"] = {"get": asked["get"], "post": posted["get"]}
    return {
        "openapi": "3.1.0",
        "info": {"title": "selfrepair", "version": version("selfrepair"), "description": _ABOUT},
        "servers": [{"url": root}],
        "paths": paths,
        "components": {
            "schemas": {"Problem": _PROBLEM, "Rows": {"type": "array", "items": {"type": "object"}}},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


_PROBLEM: Json = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong; its last sentence is the next step."},
        "next": {"type": "string", "description": "The address to read next."},
    },
}


def _query(name: str, schema: Json, about: str, *, required: bool = False, **more: Any) -> Json:
    return {"name": name, "in": "query", "required": required, "description": about, "schema": schema, **more}


_FORMAT: Json = {
    "name": "format",
    "in": "path",
    "required": True,
    "description": "How rows come.",
    "schema": {"enum": list(FORMATS)},
}
_PAGING = [
    _query(
        LIMIT,
        {"type": "integer", "minimum": 0, "maximum": MAX_ROWS, "default": ROWS_OF_PAGE},
        "Rows of a page at most.",
    ),
    _query(OFFSET, {"type": "integer", "minimum": 0, "maximum": 10**12, "default": 0}, "Rows that are left out first."),
    _query(AS_OF, {"type": "string"}, "The state of the file that the page is of, as links to pages have it."),
]
_FILTERS = [
    _query(
        COLUMNS, {"type": "string"}, "Columns to select, separated by commas; all, or headline.", example="headline"
    ),
    _query(
        "filters",
        {"type": "object", "additionalProperties": {"type": "string"}},
        "Any column and the value that it must have, such as head=L9H6; given several times, one of the values.",
        style="form",
        explode=True,
    ),
]
_SQL = _query(
    QUERY,
    {"type": "string", "minLength": 1},
    "One SELECT (or DESCRIBE, SUMMARIZE, SHOW TABLES, EXPLAIN), or the name of a view. Other parameters are the values of "
    f"its $names. At most {LONGEST_QUERY:,} characters.",
    required=True,
    example="SELECT count(*) AS n_runs FROM runs",
)


def _name(what: str) -> Json:
    known = {"tables": contents.known_tables(), "views": contents.known_views()}
    names = known[what] if what in known else contents.known_tables() | contents.known_views() | questions().keys()
    return {
        "name": "name",
        "in": "path",
        "required": True,
        "description": "Its name. A warehouse may have others of its own.",
        "schema": {"type": "string", "minLength": 1},
        "examples": {name: {"value": name} for name in sorted(names)[:3]},
    }


def _parameter(parameter: Parameter) -> Json:
    schema: Json = {"enum": [*parameter.choices]}
    if not parameter.choices:
        schema = dict(_TYPES[parameter.type.removesuffix("[]")])
    unit = f" [{parameter.unit}]" if parameter.unit else ""
    if parameter.takes_several:
        schema = {"type": "string", "description": f"{parameter.takes}."}
    elif parameter.name == "head":
        schema = {
            "type": "string",
            "description": "A head's name, such as L9H6, which names its layer, too; or its number.",
        }
    if not parameter.required and isinstance(parameter.default, str | int | float):
        schema["default"] = parameter.default
    # a head's name stands for its layer
    return _query(
        parameter.name,
        schema,
        f"{parameter.description}{unit}",
        required=parameter.required and parameter.name != "layer",
    )


def _get(about: str, answer: Json, parameters: Iterable[Json], errors: Iterable[str]) -> Json:
    problem = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    more = {"413": "The SQL is too long.", "414": "The SQL is too long.", "415": "The body is no SQL."}
    responses = {code: {"description": (_ERRORS | more)[code], "content": problem} for code in (*errors, "400", "403")}
    not_modified = {"304": {"description": "The client has this answer already."}} if errors else {}
    if errors:
        not_modified["206"] = {**answer, "description": "The bytes that Range asks for."}
    return {
        "get": {
            "summary": about,
            "parameters": list(parameters),
            "responses": {"200": answer, **not_modified, **responses},
        }
    }


def _json(about: str) -> Json:
    return {"description": about, "content": {"application/json": {"schema": {"type": "object"}}}}


def _rows(ending: str) -> Json:
    rows = {"$ref": "#/components/schemas/Rows"}
    content = {MEDIA_TYPES[kind].partition(";")[0]: {"schema": rows} if kind == "json" else {} for kind in FORMATS}
    headers = {
        "ETag": {"schema": {"type": "string"}, "description": "Changes with the file."},
        "Link": {"schema": {"type": "string"}, "description": "The pages around this one."},
        "Selfrepair-Note": {
            "schema": {"type": "string"},
            "description": "What matters for reading the answer: means of few rows, intervals of few documents.",
        },
    }
    return {"description": "Rows.", "content": content, "headers": headers}

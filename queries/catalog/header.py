"""The comment that opens every file of `views/`: what the view is, read by machine and by people.

    -- One sentence that says what a row is about.
    --
    -- Grain: the columns, that together name one row
    -- Headline: the columns, that say the answer
    -- Paper: the section the quantities come from
    -- Kept: mart
    --
    -- Any further paragraphs.
    --
    -- Parameters:
    --   layer INTEGER: What a question has to be given (see `parameters`)
    --
    -- Columns:
    --   depth DOUBLE: What the column means, over as
    --     many lines as it needs [unit]

The header is prose that a machine can read. As YAML or TOML each of its 600 columns would be a mapping of three keys, every
second description in quotes for its colon or bracket: longer files, for the same checks in the same number of lines.

A unit stands in square brackets at the end, as in the comments of the warehouse's tables. Columns that keep the name
and the meaning of a column the view reads are left out: they are described there (see `relations`).

`Headline:` names the columns that are shown first, behind run_id, model, ablation and population, which it leaves out.
Every view of more than 15 columns has one; without it, all columns are shown.

`Kept:` stands where a view reads all rows to summarise them, which would take too long each time it is asked. A `mart`
is computed once for every run and its result stored; a `stage` is held only while the marts are computed. Both hold
`run_id` and follow from the rows of that run alone (see `marts`).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

_COLUMN = re.compile(r"(?P<name>[a-z_][a-z0-9_]*) (?P<type>[A-Z][^:]*): (?P<text>\S.*)")
_FIELD = re.compile(r"(?P<key>[A-Z][a-z]*):(?: (?P<text>\S.*))?")
_UNIT = re.compile(r"(?P<text>.*?) \[(?P<unit>[^\[\]]+)\]", re.DOTALL)
_WIDTH_OF_INDENT = 2
_REQUIRED = ("Grain", "Paper")
_FIELDS = (*_REQUIRED, "Headline", "Kept")

Kept = Literal["mart", "stage", ""]


class HeaderError(Exception):
    """A view's header is missing something or says something that is not so. A mistake of ours, never of the user's."""


@dataclass(frozen=True)
class Column:
    """One column of a table or view. `unit` is empty where there is none, as for names and numbers of things."""

    name: str
    type: str
    unit: str
    description: str

    @property
    def comment(self) -> str:
        """Description and unit as one text, the way the tables' comments are written."""
        return f"{self.description} [{self.unit}]" if self.unit else self.description


@dataclass(frozen=True)
class View:
    """One parsed file of `views/` or `questions/`. `columns` holds the columns that the header describes, `parameters` the
    text of every entry below `Parameters:`; `topic` is the file's folder, `sql` the bare SELECT.
    """

    name: str
    summary: str
    grain: tuple[str, ...]
    paper: str
    notes: tuple[str, ...]
    columns: Mapping[str, Column]
    sql: str
    kept: Kept = ""
    headline: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    topic: str = ""


def split_unit(comment: str) -> tuple[str, str]:
    """Take a comment apart into description and unit (empty when it has none)."""
    match = _UNIT.fullmatch(comment)
    return (match["text"], match["unit"]) if match else (comment, "")


def parse_view(name: str, text: str, topic: str = "") -> View:
    """Read the text of `views/<topic>/<name>.sql`. Raises HeaderError with the file's name and what is wrong in it."""
    try:
        view = parse_file(name, text, topic)
        if view.parameters:
            raise HeaderError("a view takes no parameters; a file of questions/ does")
    except HeaderError as error:
        raise HeaderError(f"views/{name}.sql: {error}") from None
    return view


def parse_file(name: str, text: str, topic: str) -> View:
    """Read the text of a view or question. Raises HeaderError with what is wrong in it."""
    lines = text.splitlines()
    n_header = next((i for i, line in enumerate(lines) if not line.startswith("--")), len(lines))
    blocks = list(_blocks(line[2:].removeprefix(" ").rstrip() for line in lines[:n_header]))
    if not blocks or _FIELD.fullmatch(blocks[0][0]):
        raise HeaderError("the header must open with one sentence that says what the view is")
    summary, notes = _joined(blocks[0]), []
    fields: dict[str, str] = {}
    columns: dict[str, Column] = {}
    parameters: tuple[str, ...] = ()
    for block in blocks[1:]:
        if block[0] == "Columns:":
            columns = _columns(block[1:])
        elif block[0] == "Parameters:":
            parameters = tuple(_entries(block[1:]))
        elif _FIELD.fullmatch(block[0]):
            fields |= _fields(block)
        else:
            notes.append(_joined(block))
    for key in _REQUIRED:
        if key not in fields:
            raise HeaderError(f"the header has no line '{key}: ...'")
    kept = next((kind for kind in get_args(Kept) if kind == fields.get("Kept", "")), None)
    if kept is None:
        raise HeaderError(f"'Kept:' says mart or stage, not '{fields['Kept']}'")
    sql = "\n".join(lines[n_header:]).strip()
    if not sql:
        raise HeaderError("there is no SELECT below the header")
    grain, headline = (_names(fields.get(key, "")) for key in ("Grain", "Headline"))
    return View(name, summary, grain, fields["Paper"], tuple(notes), columns, sql, kept, headline, parameters, topic)


def _blocks(lines: Iterator[str]) -> Iterator[list[str]]:
    block: list[str] = []
    for line in lines:
        if line:
            block.append(line)
        elif block:
            yield block
            block = []
    if block:
        yield block


def _fields(lines: list[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    key = ""
    for line in lines:
        if match := _FIELD.fullmatch(line):
            key = match["key"]
            if key not in _FIELDS or key in fields:
                raise HeaderError(f"'{key}:' is given twice or is not one of {', '.join(_FIELDS)}, Columns")
            fields[key] = match["text"] or ""
        else:
            fields[key] += f" {line.strip()}"
    return fields


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _entries(lines: list[str]) -> list[str]:
    entries: list[list[str]] = []
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if indent == _WIDTH_OF_INDENT:
            entries.append([line])
        elif indent > _WIDTH_OF_INDENT and entries:
            entries[-1].append(line)
        else:
            raise HeaderError(f"an entry's line is indented by two blanks, its further lines by more: '{line}'")
    return [_joined(entry) for entry in entries]


def _columns(lines: list[str]) -> dict[str, Column]:
    columns: dict[str, Column] = {}
    for entry in _entries(lines):
        column = column_of(entry)
        if column.name in columns:
            raise HeaderError(f"column '{column.name}' is described twice")
        columns[column.name] = column
    return columns


def column_of(text: str) -> Column:
    """The column that an entry below `Columns:` describes. Raises HeaderError where it is none."""
    match = _COLUMN.fullmatch(text)
    if match is None:
        raise HeaderError(f"a column reads 'name TYPE: description [unit]', not '{text}'")
    description, unit = split_unit(match["text"])
    return Column(match["name"], match["type"], unit, description)


def _joined(lines: list[str]) -> str:
    return " ".join(line.strip() for line in lines)

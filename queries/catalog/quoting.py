"""Names and texts as SQL takes them, for the statements that know no parameters."""


def identifier(name: str) -> str:
    """`name` in quotes: any name of a view, table or column."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """`text` in quotes: a string constant."""
    return "'" + text.replace("'", "''") + "'"

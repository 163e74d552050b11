"""Tokens as a picture or table shows them: what would be blank is made visible."""

import polars as pl

_SIGNS = {" ": "·", "\n": "⏎", "\r": "␍", "\t": "⇥"}


def visible(column: str) -> pl.Expr:
    """The tokens of a column with signs for blanks and line ends; nothing else is changed."""
    return pl.col(column).str.replace_many(list(_SIGNS), list(_SIGNS.values()))

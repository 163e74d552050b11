"""Texts of tokens such that all of them can be seen: signs for blanks, codes for what has no shape."""

from unicodedata import category

import polars as pl

SIGNS = {" ": "·", "\n": "⏎", "\t": "⇥"}
"""What stands for blanks that would not be seen."""

_UNSEEN = {"Cc", "Cf", "Zl", "Zp"}  # Unicode's classes of controls and separators; some turn the text around them


def visible(text: str) -> str:
    """`text` in one line, with signs for the blanks: ' the' is '·the'. What else cannot be seen is told by its code."""
    return "".join(
        SIGNS.get(character) or (f"[U+{ord(character):04X}]" if category(character) in _UNSEEN else character)
        for character in text
    )


def meant_by(text: str) -> list[str]:
    """The texts that what a user typed may mean: as it is, and with the signs read as the blanks they stand for."""
    read = text
    for blank, sign in SIGNS.items():
        read = read.replace(sign, blank)
    return list(dict.fromkeys([text, read]))


def visible_column(name: str) -> pl.Expr:
    """The texts of a column as `visible` shows them."""
    return pl.col(name).map_elements(visible, return_dtype=pl.String)

"""Token texts with visible whitespace: signs for blanks, code points for characters without a shape."""

from unicodedata import category

import polars as pl

SIGNS = {" ": "·", "\n": "⏎", "\t": "⇥"}
"""The sign shown for each kind of whitespace."""

LEGEND = "· is a space, ⏎ a line break."
"""Explains the signs in captions."""

_INVISIBLE = {"Cc", "Cf", "Zl", "Zp"}  # Unicode's controls and separators; some reverse the text around them


def show_whitespace(text: str) -> str:
    """`text` in one line with signs for whitespace: ' the' is '·the'. Other invisible characters become '[U+202E]'."""
    return "".join(
        SIGNS.get(character) or (f"[U+{ord(character):04X}]" if category(character) in _INVISIBLE else character)
        for character in text
    )


def whitespace_column(name: str) -> pl.Expr:
    """The texts of the column `name`, each as `show_whitespace` writes it."""
    return pl.col(name).map_elements(show_whitespace, return_dtype=pl.String)


def possible_texts(typed: str) -> list[str]:
    """The texts a user may mean by `typed`: as typed, and with the signs replaced by the whitespace they stand for."""
    replaced = typed
    for blank, sign in SIGNS.items():
        replaced = replaced.replace(sign, blank)
    return list(dict.fromkeys([typed, replaced]))

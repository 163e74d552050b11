"""Text from outside the app, escaped so that Markdown shows it literally: no images, links, formulas or icons."""

import re

_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")

_REPLACED = re.compile(
    r"""
      :(?=//)                                      # https://lab.example becomes a link
    | (?<=www)\.                                   # so does www.lab.example
    | (?<=[\w.+-])@(?=[\w-])                       # and name@lab.example
    | :(?=[\w+-]+:)                                # :smile: an emoji, :material_home: an icon
    | (?<!\S)[<>~-](?=[->=](?!\S))               # -> and >= other signs
    | (?<=(?<!\S)<)-(?=>(?!\S))                  # so does <->
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""The first character of what Streamlit's frontend replaces in the text that is left when the backslashes are gone."""


def escape_markdown(text: str) -> str:
    """`text`, safe in any Markdown of a page. Model names and link parameters may hold Markdown, such as an image on another
    host.

    A character that would begin a link stands in a span of its own, `:color[]` without a colour: the frontend looks for
    links in each piece of text by itself, and what is copied from the page is the text as it was.
    """
    pieces = []
    end = 0
    for found in _REPLACED.finditer(text):
        pieces += [_escaped(text[end : found.start()]), f":color[{_escaped(found[0])}]"]
        end = found.end()
    return "".join([*pieces, _escaped(text[end:])])


def _escaped(text: str) -> str:
    return _PUNCTUATION.sub(r"\\\g<0>", text).replace("\n", "  \n")

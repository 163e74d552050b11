"""Text from outside the app, escaped so that Markdown shows it literally: no images, links, formulas or icons."""

import re

_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")


def escape_markdown(text: str) -> str:
    """`text`, safe in any Markdown of a page. Model names and link parameters may hold Markdown, such as an image on another
    host.
    """
    return _PUNCTUATION.sub(r"\\\g<0>", text).replace("\n", "  \n")

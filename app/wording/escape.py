"""Text that others wrote, as Markdown that shows it as it is: no pictures, links, formulas or icons come of it."""

import re

_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")


def plain(text: str) -> str:
    """`text` for any Markdown of a page. Names of models and words of a link may hold what Markdown would carry out, such
    as a picture from another host.
    """
    return _PUNCTUATION.sub(r"\\\g<0>", text).replace("\n", "  \n")

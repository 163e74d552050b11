"""Names, units and meanings on the screen: read from the comments of the tables' and views' columns."""

import re
from functools import cache

from selfrepair.queries.catalog.header import Column
from selfrepair.queries.catalog.relations import relations

_SPELLED = {
    "mlp": "MLP",
    "layernorm": "LayerNorm",
    "ln": "final norm",
    "se": "standard error",
    "id": "id",
    "bos": "BOS",
    "kl": "KL",
    "kv": "key/value",
    "sd": "SD",
    "pos": "position",
}

_TOP = re.compile(r"top(?=\d)")
_PERCENT = re.compile(r"(quantile|share_top|hill|exceed)_(\d+)(?:_(\d+))?")
_JOINED = {"self repair": "self-repair", "anti erasure": "anti-erasure"}


@cache
def column(view: str, name: str) -> Column:
    """What the column of a view is. Raises KeyError for one that is not there: a mistake of a page."""
    return {column.name: column for column in relations()[view].columns}[name]


def title(view: str, name: str) -> str:
    """The column's name in words with its unit, for axes and headers: 'Mean self-repair [logits]'.

    Of counts the unit is the noun: `n_heads` [heads] is 'Heads', and `n_repaired` [heads] 'Heads repaired'.
    """
    unit, named = column(view, name).unit, words(name)
    if not name.startswith("n_") or not unit:
        return f"{named} [{unit}]" if unit else named
    return named if named.lower().endswith(unit) else f"{words(unit)} {named[:1].lower()}{named[1:]}"


def words(name: str) -> str:
    """A column's name in words: 'mean_repair_mlp' is 'Mean repair MLP', 'n_rows' 'Rows', 'share_top_0_1' 'Share top 0.1 %'."""
    name = _PERCENT.sub(lambda found: f"{found[1]}_{'.'.join(filter(None, found.groups()[1:]))} %", name)
    text = " ".join(_SPELLED.get(word, word) for word in name.removeprefix("n_").split("_"))
    text = _TOP.sub("top ", text)
    for apart, joined in _JOINED.items():
        text = text.replace(apart, joined)
    return text[:1].upper() + text[1:]


def effect_words(effect: str) -> str:
    """One of `tail_curve`'s measures in words: 'abs_self_repair' is 'Size of self-repair'."""
    name = effect.removeprefix("abs_")
    return words(name) if name == effect else f"Size of {words(name).lower()}"


def meaning(view: str, name: str) -> str:
    """What the column means, in a sentence: the help beside its number."""
    return column(view, name).comment


@cache
def known_columns(names: tuple[str, ...]) -> dict[str, Column]:
    """Those of `names` that a table or view has a column of: one name means one thing in the whole warehouse."""
    known = {column.name: column for relation in relations().values() for column in relation.columns}
    return {name: known[name] for name in names if name in known}

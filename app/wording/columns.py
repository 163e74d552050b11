"""Names, units and meanings of columns as the app shows them, from the comments of tables and views."""

import re
from functools import cache

from selfrepair.queries.catalog.header import Column
from selfrepair.queries.catalog.relations import relations

_PHRASES = {
    "total_fraction_of_effect": "self-repair / direct effect",
    "layernorm_fraction_of_effect": "LayerNorm repair / direct effect",
    "attention_fraction_of_effect": "attention repair / direct effect",
    "mlp_fraction_of_effect": "MLP repair / direct effect",
    "post_norm_fraction_of_effect": "post-norm repair / direct effect",
    "total_fraction_of_removed": "self-repair / drop in direct effect",
    "layernorm_fraction_of_removed": "LayerNorm repair / drop in direct effect",
    "attention_fraction_of_removed": "attention repair / drop in direct effect",
    "mlp_fraction_of_removed": "MLP repair / drop in direct effect",
    "post_norm_fraction_of_removed": "post-norm repair / drop in direct effect",
    "direct_effect_after": "direct effect after the addition",
    "top1_from_here_share": "top-1 correct from here on",
    "top1_share": "top-1 correct",
    "top10_share": "in the top 10",
    "neurons_for_half": "neurons that hold 50 % of the change",
    "share_undefined_ratios": "rows without a ratio",
    "undefined_ratios": "rows without a ratio",
    "removed_effect": "drop in direct effect",
    "logit_change": "change in logit",
    "repair_layernorm": "LayerNorm repair",
    "repair_attention": "attention repair",
    "repair_mlp": "MLP repair",
    "repair_post_norm": "post-norm repair",
    "post_norm": "post-norm",
    "self_repair": "self-repair",
    "anti_erasure": "anti-erasure",
}
"""The field's term for a name, or a part of one, whose words alone would not say it; longer names first."""

_SPELLED = {
    "mlp": "MLP",
    "layernorm": "LayerNorm",
    "ln": "final norm",
    "se": "standard error",
    "bos": "BOS",
    "kl": "KL",
    "kv": "key/value",
    "sd": "SD",
    "pos": "position",
    "population": "rows used",
    "logprob": "log-probability",
    "crosscheck": "cross-check",
    "base": "baseline",
    "right": "where correct",
    "wrong": "where wrong",
    "pearson": "Pearson",
    "spearman": "Spearman",
    "authors": "authors'",
    "kendall": "Kendall",
    "lorenz": "Lorenz",
}

_TOP = re.compile(r"top(?=\d)")
_PERCENT = re.compile(r"(quantile|share_top|hill|exceed)_(\d+)(?:_(\d+))?")


@cache
def column(view: str, name: str) -> Column:
    """The description of a view's column. Raises KeyError for an unknown one: a mistake of a page."""
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
    """A column's name in words: 'mean_repair_mlp' is 'Mean MLP repair', 'n_rows' 'Rows', 'share_top_0_1' 'Share top 0.1 %'."""
    for part, phrase in _PHRASES.items():
        name = name.replace(part, phrase)
    name = _PERCENT.sub(lambda found: f"{found[1]}_{'.'.join(filter(None, found.groups()[1:]))} %", name)
    text = " ".join(_SPELLED.get(word, word) for word in name.removeprefix("n_").split("_"))
    text = _TOP.sub("top ", text)
    return text[:1].upper() + text[1:]


def effect_words(effect: str) -> str:
    """One of `tail_curve`'s measures in words: 'abs_self_repair' is 'Absolute self-repair'."""
    name = effect.removeprefix("abs_")
    return words(name) if name == effect else f"Absolute {words(name).lower()}"


def meaning(view: str, name: str) -> str:
    """What the column means, in a sentence: the help text beside its number."""
    return column(view, name).comment


@cache
def known_columns(names: tuple[str, ...]) -> dict[str, Column]:
    """The columns among `names` that some table or view has: a name means the same in the whole warehouse."""
    known = {column.name: column for relation in relations().values() for column in relation.columns}
    return {name: known[name] for name in names if name in known}

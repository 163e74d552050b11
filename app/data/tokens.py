"""Queries of the page Tokens: a head's rows on a prompt, all heads at a position, rows to go to."""

from collections.abc import Sequence

from selfrepair.queries.catalog.quoting import literal

EFFECTS = (
    "direct_effect",
    "ablated_direct_effect",
    "removed_effect",
    "logit_change",
    "self_repair",
    "repair_layernorm",
    "repair_attention",
    "repair_mlp",
    "repair_post_norm",
    "ln_scale_ratio",
)
"""Numbers of a row of `self_repair`; `repair_post_norm` only in models with post-norms."""

CLEAN = ("clean_logprob", "clean_rank", "clean_entropy")
"""Numbers of a row of `self_repair` that are the clean prediction's."""

NEUTRAL = {"ln_scale_ratio": 1.0}
"""The value of no effect, where it is not 0."""

CONTEXT = 8
"""Tokens of a row that are shown, up to the source token."""

_SHOWN = ("direct_effect", "logit_change", "self_repair")


def where_label(where_rows: str, label: str) -> str:
    """The condition on the rows of the head `label`, such as L9H6."""
    layer, head = label[1:].split("H")
    return f"{where_rows} AND layer = {int(layer)} AND head = {int(head)}"


def prompt_rows(
    where_head: str, prompt: int, positions: Sequence[int] | None = None, effects: Sequence[str] = EFFECTS
) -> str:
    """A head's rows on a prompt in order of pos, or those at `positions` in their order; `effects` are those of `EFFECTS`
    that the run has.
    """
    chosen, order = "", "pos"
    if positions is not None:
        listed = ", ".join(map(str, positions))
        chosen, order = f" AND pos IN ({listed})", f"list_position([{listed}], pos)"
    return (
        f"SELECT\n    pos,\n    token,\n    target,\n    {_listed([*effects, *CLEAN])}\nFROM self_repair\n"
        f"WHERE {where_head} AND prompt_id = {prompt}{chosen}\nORDER BY {order}"
    )


def heads_at_position(where_rows: str, prompt: int, pos: int, measure: str, effects: Sequence[str] = EFFECTS) -> str:
    """Every head's row at a position, the largest |`measure`| first; `effects` as in `prompt_rows`."""
    return (
        f"SELECT\n    label,\n    {_listed(_first(measure, effects))}\nFROM self_repair\n"
        f"WHERE {where_rows} AND prompt_id = {prompt} AND pos = {pos}\nORDER BY {effect_size(measure)} DESC, layer, head"
    )


def top_rows(where_population: str, order: str, at_most: int) -> str:
    """A head's first rows of a population by `order`, with their context."""
    return with_text("population_rows", where_population, order, _SHOWN, at_most)


def rows_with_token(where_head: str, column: str, texts: Sequence[str], whole: bool, measure: str, at_most: int) -> str:
    """A head's rows whose token or target (`column`) is one of `texts` or, if not `whole`, contains one of them.

    The largest |`measure`| comes first.
    """
    tests = [f"{column} = {literal(text)}" if whole else f"contains({column}, {literal(text)})" for text in texts]
    where = f"{where_head} AND ({' OR '.join(tests)})"
    return with_text("self_repair", where, f"{effect_size(measure)} DESC", _first(measure, _SHOWN), at_most)


def effect_size(measure: str) -> str:
    """SQL of the distance of a measure from no effect."""
    neutral = NEUTRAL.get(measure)
    return f"abs({measure})" if neutral is None else f"abs({measure} - {neutral:g})"


def with_text(view: str, where: str, order: str, shown: Sequence[str], at_most: int) -> str:
    """The first rows of a view by `order` with the columns `shown`, and as `context` the text up to each."""
    return (
        f"WITH found AS (\n    SELECT\n        run_id,\n        prompt_id,\n        pos,\n        {_listed(shown, 8)}\n"
        f"    FROM {view}\n    WHERE {where}\n    ORDER BY {order}, prompt_id, pos\n    LIMIT {at_most}\n),\n"
        f"placed AS (\n    SELECT *, row_number() OVER (ORDER BY {order}, prompt_id, pos) AS place\n    FROM found\n)\n"
        "SELECT\n    prompt_id,\n    placed.pos,\n    string_agg(before.token, '' ORDER BY before.pos) AS context,\n"
        "    arg_max(before.target, before.pos) AS target,\n"
        f"    {_listed([f'any_value({name}) AS {name}' for name in shown])}\n"
        "FROM placed\nINNER JOIN tokens AS before USING (run_id, prompt_id)\n"
        f"WHERE before.pos > placed.pos - {CONTEXT} AND before.pos <= placed.pos\n"
        "GROUP BY place, prompt_id, placed.pos\nORDER BY place"
    )


def _first(measure: str, names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys([measure, *names]))


def _listed(names: Sequence[str], indent: int = 4) -> str:
    return f",\n{' ' * indent}".join(names)

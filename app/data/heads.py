"""Queries of the page Heads: SQL without parameters."""

from collections.abc import Mapping, Sequence

from selfrepair.app.data.choice import Choice
from selfrepair.queries.catalog.quoting import literal

PARTS = {
    "total": "self_repair",
    "LayerNorm": "repair_layernorm",
    "attention": "repair_attention",
    "MLP": "repair_mlp",
    "post-norm": "repair_post_norm",
}
"""Columns of a row by the component that repairs; the last only in models with post-norms."""

TOP_ROW_COLUMNS = (
    *("effect_rank", "token", "target", "direct_effect", "removed_effect", "logit_change", "self_repair"),
    *("repair_layernorm", "repair_attention", "repair_mlp", "repair_post_norm", "prompt_id", "pos"),
)
"""Columns of `top_effect` that the page shows."""

MAX_ROWS_DRAWN = 1_000
MAX_TOP_ROWS = 200

_N_BINS = 30  # about


def where_head(choice: Choice, layer: int, head: int) -> str:
    """The condition on rows of one head."""
    return f"{choice.where_rows} AND layer = {layer} AND head = {head}"


def parts(head: str, population: str, columns: Mapping[str, str], *, of_effect: bool) -> str:
    """part, value, low and high of a head's self-repair: means [logits], or `of_effect` fractions of the direct effect.

    `columns` are those of `PARTS` that the run has; intervals are the view's.
    """
    rows = ",\n    ".join(_part(part, column, of_effect) for part, column in columns.items())
    where = f"{head} AND population = {literal(population)}"
    return f"SELECT unnest([\n    {rows}\n], recursive := true)\nFROM head_repair\nWHERE {where}"


def _part(part: str, column: str, of_effect: bool) -> str:
    value = f"{part.lower().replace('-', '_')}_fraction_of_effect" if of_effect else f"mean_{column}"
    return f"{{'part': {literal(part)}, 'value': {value}, 'low': {value}_low, 'high': {value}_high}}"


def sampled_rows(head: str) -> str:
    """A uniform random sample of a head's rows, the same one each time."""
    return (
        f"WITH head_rows AS (\n    FROM repair_rows\n    WHERE {head}\n),\n"
        f"drawn AS (\n    FROM head_rows\n    USING SAMPLE reservoir({MAX_ROWS_DRAWN} ROWS) REPEATABLE (1)\n)\n"
        "SELECT prompt_id, pos, token, target, direct_effect, logit_change, self_repair\n"
        "FROM drawn\nINNER JOIN tokens USING (run_id, prompt_id, pos)"
    )


def prompt_bins(head: str) -> str:
    """The number of prompts by mean self-repair from `low` up to `high` [logits], in about 30 bins of a round width.

    Bins start at multiples of their width, so that none contains both signs.
    """
    return f"""WITH prompts AS (
    SELECT mean_self_repair
    FROM prompt_repair
    WHERE {head}
),
spread AS (
    SELECT greatest(max(mean_self_repair) - min(mean_self_repair), 1e-4) / {_N_BINS} AS width
    FROM prompts
),
round_width AS (
    SELECT
        10 ** floor(log10(width)) AS step,
        step * CASE WHEN width <= step THEN 1 WHEN width <= 2 * step THEN 2 WHEN width <= 5 * step THEN 5 ELSE 10 END AS width
    FROM spread
)
SELECT
    floor(mean_self_repair / width) * width AS low,
    (floor(mean_self_repair / width) + 1) * width AS high,
    count(*) AS n_prompts
FROM prompts
CROSS JOIN round_width
GROUP BY ALL
ORDER BY low"""


def tail_curve(head: str, effect: str) -> str:
    """The points of a tail above 0, which a logarithmic axis can show."""
    return (
        "SELECT value, n_reached, reached_share\nFROM tail_curve\n"
        f"WHERE {head} AND measure = {literal(effect)} AND value > 0\nORDER BY value"
    )


def top_rows(head: str, columns: Sequence[str]) -> str:
    """The rows with a head's highest direct effects."""
    return (
        f"SELECT\n    {', '.join(columns)}\n"
        f"FROM top_effect\nWHERE {head} AND effect_rank <= {MAX_TOP_ROWS}\nORDER BY effect_rank"
    )


def numbers(head: str, population: str, names: Sequence[str]) -> str:
    """Columns `names` of `head_repair` for a head, over one population and over all rows. All would take twice as long."""
    shown = ", ".join(dict.fromkeys(["population", *names]))
    return f"SELECT {shown}\nFROM head_repair\nWHERE {head} AND population IN ({literal(population)}, 'all')"


def noise(head: str) -> str:
    """The row of `head_noise` for a head."""
    return f"FROM head_noise\nWHERE {head}"


def tail_numbers(head: str, effect: str) -> str:
    """The row of `head_tail` for one effect of a head."""
    return f"FROM head_tail\nWHERE {head} AND measure = {literal(effect)}"

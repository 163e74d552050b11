"""Queries of the page Self-repression: SQL without parameters."""

MAX_DOTS = 3_000


def multiples(run_id: int) -> str:
    """The multiples of a head's output that a run added."""
    return f"SELECT DISTINCT multiple\nFROM self_repression_slope\nWHERE run_id = {run_id}\nORDER BY multiple"


def slopes(run_id: int, multiple: str) -> str:
    """Every head's slope, those of its controls, and the verdict."""
    return (
        "SELECT\n    label, layer, head, verdict, slope, slope_low, slope_high, other_slope, random_slope, own_scale_slope,\n"
        "    other_slope_low, other_slope_high, random_slope_low, random_slope_high, correlation, intercept, n_rows\n"
        "FROM self_repression_slope\n"
        f"WHERE run_id = {run_id} AND multiple = {multiple}\nORDER BY layer, head"
    )


def where_head(run_id: int, layer: int, head: int, multiple: str) -> str:
    """The condition on rows of one head and one multiple of its output."""
    return f"run_id = {run_id} AND layer = {layer} AND head = {head} AND multiple = {multiple}"


def fits(where: str) -> str:
    """The fits for the head's own output and for each control."""
    return (
        "SELECT added_vector, slope, slope_se, slope_low, slope_high, intercept, correlation, n_rows, n_prompts\n"
        f"FROM self_repression_fits\nWHERE {where}\nORDER BY added_vector"
    )


def rows(where: str) -> str:
    """Stored rows, where there are many a uniform random sample, the same one each time."""
    return (
        f"WITH head_rows AS (\n    FROM self_repression\n    WHERE {where}\n),\n"
        f"drawn AS (\n    FROM head_rows\n    USING SAMPLE reservoir({MAX_DOTS} ROWS) REPEATABLE (1)\n)\n"
        "SELECT\n    added_vector, direct_effect, direct_effect_after, direct_effect_after_own_scale, other_head,\n"
        "    token, target, prompt_id, pos\n"
        "FROM drawn\nINNER JOIN tokens USING (run_id, prompt_id, pos)\nORDER BY prompt_id, pos, added_vector"
    )

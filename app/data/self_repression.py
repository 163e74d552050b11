"""What the page of feedback asks: SQL that runs as it stands."""

MOST_DOTS = 3_000


def strengths(run_id: int) -> str:
    """How many times outputs were added in a run."""
    return f"SELECT DISTINCT strength\nFROM head_feedback_slope\nWHERE run_id = {run_id}\nORDER BY strength"


def slopes(run_id: int, strength: str) -> str:
    """Every head's slope, its controls' and the verdict."""
    return (
        "SELECT\n    label, layer, head, verdict, slope, slope_low, slope_high, other_slope, random_slope, own_scale_slope,\n"
        "    other_slope_low, other_slope_high, random_slope_low, random_slope_high, correlation, intercept, n_rows\n"
        "FROM head_feedback_slope\n"
        f"WHERE run_id = {run_id} AND strength = {strength}\nORDER BY layer, head"
    )


def where_head(run_id: int, layer: int, head: int, strength: str) -> str:
    """The condition on what was added for one head so many times."""
    return f"run_id = {run_id} AND layer = {layer} AND head = {head} AND strength = {strength}"


def fits(where: str) -> str:
    """The fit for the head's own output and for each control."""
    return (
        "SELECT feedback, slope, slope_se, slope_low, slope_high, intercept, correlation, n_rows, n_prompts\n"
        f"FROM feedback_fits\nWHERE {where}\nORDER BY feedback"
    )


def rows(where: str) -> str:
    """Stored rows, drawn evenly where there are many; the same ones each time."""
    return (
        f"WITH head_rows AS (\n    FROM head_feedback\n    WHERE {where}\n),\n"
        f"drawn AS (\n    FROM head_rows\n    USING SAMPLE reservoir({MOST_DOTS} ROWS) REPEATABLE (1)\n)\n"
        "SELECT feedback, direct_effect, fed_effect, fed_effect_own_scale, other_head, token, target, prompt_id, pos\n"
        "FROM drawn\nINNER JOIN tokens USING (run_id, prompt_id, pos)\nORDER BY prompt_id, pos, feedback"
    )

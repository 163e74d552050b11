"""The SQL functions that views are written with, such as `head_label(9, 6)`, which is 'L9H6'.

They stand in the file's own main schema, where the views of any DuckDB client find them, under whatever name the file is
attached. Where a reader brings views of its own, it brings the functions, too, for that connection alone.
"""

from dataclasses import dataclass
from typing import Any

import duckdb

from selfrepair.queries.catalog.quoting import literal
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.verify.rules import identity_excess


@dataclass(frozen=True)
class Macro:
    """A function: its parameters and definition as CREATE MACRO takes them, what it is, and a call with its value."""

    name: str
    definition: str
    meaning: str
    call: str
    value: Any

    @property
    def marker(self) -> str:
        """Ends its comment in a file, of whatever version; one without it is the user's own."""
        return f"(selfrepair macro {self.name})"


_T_975 = (
    "[12.706204736174694e0, 4.302652729749462e0, 3.1824463052837078e0, 2.7764451051977934e0, 2.5705818356363146e0, "
    "2.4469118511449786e0, 2.364624251592784e0, 2.306004135204166e0, 2.262157162798205e0, 2.228138851986274e0, "
    "2.200985160082949e0]"
)
"""The 97.5 % points of Student's t with 1 to 11 degrees of freedom."""

MACROS = (
    Macro(
        "head_label",
        "(layer, head) AS 'L' || layer || 'H' || head",
        "Name of a head as the field writes it, such as L9H6.",
        "(9, 6)",
        "L9H6",
    ),
    Macro(
        "in_steps",
        "(x) AS round(x * 10000) / 10000",
        "x in whole steps of 1e-4, in which effects are stored: a difference of such numbers without its float noise.",
        "(0.12344)",
        0.1234,
    ),
    Macro(
        "clipped",
        "(x) AS CASE WHEN x < 0 THEN 0 WHEN x > 1 THEN 1 ELSE x END",
        "x clipped to [0, 1]; NULL stays NULL.",
        "(1.5)",
        1,
    ),
    Macro(
        "identity_excess",
        "(direct, ablated, change, layernorm, attention, mlp, post_norm) AS "
        + identity_excess("direct", "ablated", "change", "layernorm", "attention", "mlp", "post_norm"),
        "How far the parts of a stored row miss its self-repair, as a share of what rounding explains; > 1: damaged.",
        "(1, 1, 2, 1, 1, 0, NULL)",
        0.0,
    ),
    Macro(
        "ratio_sums",
        "(estimate, is_fraction, n, d, weight := 1) AS {'estimate': estimate, 'is_fraction': is_fraction, 'n': sum(n), "
        "'d': sum(d), 'nn': sum(weight * n * n), 'nd': sum(weight * n * d), 'dd': sum(weight * d * d), "
        "'nnn': sum(1e0 * weight * n * n * n), 'nnd': sum(1e0 * weight * n * n * d), "
        "'ndd': sum(1e0 * weight * n * d * d), 'ddd': sum(1e0 * weight * d * d * d), "
        "'nnnn': sum(1e0 * weight * n * n * n * n), 'nnnd': sum(1e0 * weight * n * n * n * d), "
        "'nndd': sum(1e0 * weight * n * n * d * d), 'nddd': sum(1e0 * weight * n * d * d * d), "
        "'dddd': sum(1e0 * weight * d * d * d * d)}",
        "Sums over clusters, each standing for weight of them, from which sum(n) / sum(d) has its value and interval.",
        "('a', true, 2, 3, 1)",
        {"estimate": "a", "is_fraction": True, "n": 2, "d": 3, "nn": 4, "nd": 6, "dd": 9}
        | {"nnn": 8, "nnd": 12, "ndd": 18, "ddd": 27, "nnnn": 16, "nnnd": 24, "nndd": 36, "nddd": 54, "dddd": 81},
    ),
    Macro(
        "ratio_se",
        "(sums, n) AS sqrt(greatest(0, sums.nn - 2 * sums.n / sums.d * sums.nd + (sums.n / sums.d) ** 2 * sums.dd) "
        "* n / nullif(n - 1, 0)) / abs(nullif(sums.d, 0))",
        "Standard error of the ratio whose ratio_sums over n clusters these are, linearised; NULL: one cluster.",
        "({'n': 4, 'd': 2, 'nn': 10, 'nd': 4, 'dd': 2}, 2)",
        1.0,
    ),
    Macro(
        "hill_error",
        "(logs, top_rows, all_rows, steepness) AS sqrt(greatest(0, sum(logs * logs) - 2 * steepness * sum(logs * top_rows) "
        "+ steepness ** 2 * sum(top_rows * top_rows) "
        "+ 2 * sum(top_rows) / sum(all_rows) * (steepness - sum(logs) / sum(top_rows)) "
        "* (coalesce(sum(logs * all_rows), 0) - steepness * sum(top_rows * all_rows)) "
        "+ (sum(top_rows) / sum(all_rows) * (steepness - sum(logs) / sum(top_rows))) ** 2 * sum(all_rows * all_rows)) "
        "* count(*) / nullif(count(*) - 1, 0)) / nullif(sum(logs), 0)",
        "Relative standard error of a Hill index, from sums by cluster (hill_errors).",
        "(2, 3, 4, 1)",
        None,
    ),
    Macro(
        "wilson",
        "(hits, n, side) AS greatest(0, least(1, (hits + 1.920729410347062e0 + side * 1.959963984540054e0 "
        "* sqrt(hits * (n - hits) / n + 0.960364705173531e0)) / (n + 3.841458820694124e0)))",
        "An end of Wilson's 95 % interval of a share of hits among n; side -1: the lower, 1: the upper.",
        "(2, 4, 0)",
        0.5,
    ),
    Macro(
        "less_at_cut",
        "(x, at_cut, excess) AS coalesce(x, 0) - at_cut * excess",
        "A sum over a cluster's rows in the top, less what it has there because the cut lies where it does (cluster_sums).",
        "(7, 2, 3)",
        1,
    ),
    Macro(
        "t_975",  # a table, then the expansion in 1 / freedom: exact to 4e-6; between whole numbers up to 10, up to 3 % above
        "(freedom) AS CASE WHEN freedom < 1 THEN NULL WHEN freedom <= 10 THEN "
        f"{_T_975}[CAST(floor(freedom) AS INTEGER)] * ({_T_975}[CAST(floor(freedom) AS INTEGER) + 1] "
        f"/ {_T_975}[CAST(floor(freedom) AS INTEGER)]) ** ((freedom - floor(freedom)) * (floor(freedom) + 1) / freedom) "
        "ELSE 1.959963984540054e0 "
        "+ 2.372271230298562e0 / freedom + 2.8224986157396112e0 / freedom ** 2 + 2.555849679507722e0 / freedom ** 3 "
        "+ 1.5895340533938225e0 / freedom ** 4 END",
        "The 97.5 % point of Student's t with that many degrees of freedom; NULL: none.",
        "(2)",
        4.302652729749462,
    ),
    Macro(
        "jackknife",
        "(x, is_whole) AS CASE WHEN count(x) = count(*) THEN t_975(count(*) - 2) * sqrt((count(*) - 2) * var_pop(x) "
        "FILTER (NOT is_whole)) END",
        "Half the width of the 95 % interval of a number, x where is_whole, from the x without each of several clusters in "
        "turn; NULL: one cluster, or no number without one of them.",
        "(2, true)",
        None,
    ),
    Macro(
        "normal_tail",  # Abramowitz and Stegun 26.2.23: exact to 4.5e-4
        "(p) AS sqrt(-2 * ln(p)) - (2.515517e0 + 0.802853e0 * sqrt(-2 * ln(p)) + 0.010328e0 * -2 * ln(p)) / (1 + 1.432788e0 "
        "* sqrt(-2 * ln(p)) + 0.189269e0 * -2 * ln(p) + 0.001308e0 * sqrt(-2 * ln(p)) ** 3)",
        "The value that a standard normal number exceeds with probability p, for p up to 0.5.",
        "(1)",
        -2.515517,
    ),
    Macro(
        "t_of_many",  # by Wallace's transform: for 11 degrees at most 1 % too wide, for 40 exact to 3e-4, for fewer wider
        "(freedom, n) AS CASE WHEN freedom >= 1 THEN sqrt(freedom * (exp((normal_tail(0.025e0 / n) * (8e0 * freedom + 3) "
        "/ (8e0 * freedom + 1)) ** 2 / freedom) - 1)) END",
        "As t_975, for n intervals that are to hold all together at 95 % (Bonferroni).",
        "(NULL, 3)",
        None,
    ),
    Macro(
        "fieller",
        "(ratio, squares, slope, room, side) AS ratio + (slope + side * sqrt(slope * slope + room * squares)) / room",
        "An end of Fieller's interval: where room * x^2 - 2 * slope * x = squares, x from the ratio; side -1: the lower, 1: "
        "the upper.",
        "(1, 4, 0, 1, -1)",
        -1.0,
    ),
    Macro(
        "half_width",
        "(t, skew, side) AS greatest(t, CASE WHEN abs(skew) > 1e-6 "
        "THEN -side * 3 / skew * (cbrt(1 - skew * (side * t + skew / 6)) - 1) ELSE t END)",
        "How many standard errors an interval reaches to a side (-1: down, 1: up): t, or by Hall's transform more, where the "
        "clusters' residuals are skewed: skew = sum of cubes / (sum of squares) ** 1.5.",
        "(2, 0, 1)",
        2,
    ),
    Macro(
        "default_population",  # columns have other names inside: the run_id of a call would be that of `runs`
        "(run) AS (SELECT CASE WHEN coalesce(scored, 'next_token') = 'next_token' THEN 'top2' ELSE 'all' END "
        "FROM (SELECT run_id AS scoring_run, logit_of AS scored FROM runs) WHERE scoring_run = run)",
        "Rows used of a run where nobody says: the paper's top 2 %, or all where only answers are scored, one row a prompt.",
        "(NULL)",
        None,
    ),
)


def install_macros(con: duckdb.DuckDBPyConnection) -> None:
    """Create or replace the functions in the file. Raises SelfRepairError when the user has one of such a name."""
    found = con.execute(
        "SELECT function_name, comment FROM system.main.duckdb_functions() "
        "WHERE schema_name = 'main' AND database_name = system.main.current_database()"
    ).fetchall()
    for macro in MACROS:
        if not all((comment or "").endswith(macro.marker) for name, comment in found if name == macro.name):
            raise SelfRepairError(
                f"this file has a macro '{macro.name}' of your own, and selfrepair installs one of that name; nothing was "
                f"changed. Create yours under another name, DROP MACRO {macro.name}, and then: selfrepair load"
            )
    for macro in MACROS:
        con.execute(f"CREATE OR REPLACE MACRO {macro.name}{macro.definition}")
        con.execute(f"COMMENT ON MACRO {macro.name} IS {literal(f'{macro.meaning} {macro.marker}')}")


def has_macros(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether the file has the functions, and they come to what they should."""
    try:
        values = con.execute("SELECT " + ", ".join(macro.name + macro.call for macro in MACROS)).fetchall()
    except duckdb.Error:
        return False
    return values == [tuple(macro.value for macro in MACROS)]


def create_temp_macros(con: duckdb.DuckDBPyConnection) -> None:
    """Create the functions for this connection only."""
    con.execute(";\n".join(temp_macros().values()))


def temp_macros() -> dict[str, str]:
    """The statements that create the functions for a connection, by name."""
    return {macro.name: f"CREATE OR REPLACE TEMP MACRO {macro.name}{macro.definition}" for macro in MACROS}

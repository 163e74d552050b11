"""Read a whole warehouse and report which of its rules hold."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import duckdb

from selfrepair.warehouse.database.connection import open_reader
from selfrepair.warehouse.database.publication import Publication, publication_at
from selfrepair.warehouse.verify.rules import Rule, rules


@dataclass(frozen=True)
class Check:
    """The result for one rule: whether it holds, and `detail`: over how many rows, or how often it is violated."""

    name: str
    ok: bool
    detail: str


def verify(db: Path) -> list[Check]:
    """Check every rule, in order. Changes nothing; memory stays bounded.

    Raises SelfRepairError as `open_reader` does; a violated rule does not raise.
    """
    publication = publication_at(db)
    with open_reader(db) as con:
        return [*([] if publication is None else [_files(publication)]), *checks(con)]


def checks(con: duckdb.DuckDBPyConnection, run_ids: Collection[int] | None = None) -> list[Check]:
    """The same for a warehouse that is open; only of what is in the rows of these runs, where some are given."""
    chosen = "" if run_ids is None else f"WHERE run_id IN ({', '.join(map(str, run_ids))})"
    units = con.execute(
        f"SELECT run_id, first_prompt, first_prompt + n_prompts - 1 FROM units {chosen} ORDER BY run_id, first_prompt"
    ).fetchall()
    return [_check(con, rule, units, chosen) for rule in rules()]


def _files(publication: Publication) -> Check:
    """Whether what is here of a publication's files is what was published; what lies elsewhere is not fetched for that."""
    name = "files are those that were published"
    if damaged := publication.damaged():
        return Check(name, False, f"{_counted(len(damaged), 'violation')}, such as {damaged[0]}")
    n_here = sum((publication.folder / one).exists() for one in publication.entries)
    return Check(name, True, f"{_counted(n_here, 'file')} of {len(publication.entries):,} by SHA-256")


def _check(con: duckdb.DuckDBPyConnection, rule: Rule, units: list[tuple[int, int, int]], chosen: str) -> Check:
    n_violations = 0
    example = ""
    sql = rule.sql_of_unit if rule.by_unit else rule.sql
    for parameters in _parameters(rule, units):
        # Only a count and one example: a list of violations could be as long as the table.
        ((n, first),) = con.execute(f"SELECT count(*), min(what) FROM ({sql}) {chosen}", parameters).fetchall()
        n_violations += n
        example = example or first or ""
    if n_violations:
        return Check(rule.name, False, f"{_counted(n_violations, 'violation')}, such as {example}")
    ((n_rows,),) = con.execute(f"SELECT count(*) FROM {rule.over}").fetchall()
    return Check(rule.name, True, f"{_counted(n_rows, 'row')} of {rule.over}")


def _parameters(rule: Rule, units: list[tuple[int, int, int]]) -> list[dict[str, int]]:
    if not rule.by_unit:
        return [{}]
    return [{"run_id": run_id, "first_prompt": first, "last_prompt": last} for run_id, first, last in units]


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"

"""Views of a connection that are made when a query names them: to make all of them takes longer than most queries."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import duckdb

_WORD = re.compile(r"\w+")
_LISTS = re.compile(r"\b(show|duckdb_\w+|information_schema|sqlite_\w+|pg_\w+)\b", re.IGNORECASE)
"""What tells which views there are."""


@dataclass
class OnDemand:
    """Statements that make TEMP views and functions, by name, in an order in which all could be run."""

    con: duckdb.DuckDBPyConnection
    statements: Mapping[str, str] = field(default_factory=dict)
    views: frozenset[str] = frozenset()
    _made: set[str] = field(default_factory=set)

    def make_for(self, text: str) -> None:
        """Make what the text may name, and what that needs."""
        self._make(self.statements if _LISTS.search(text) else _words(text))

    def make_all(self) -> None:
        """Make everything."""
        self._make(self.statements)

    def _make(self, names: Iterable[str]) -> None:
        needed: set[str] = set()
        waiting = [name for name in names if name in self.statements]
        while waiting:
            if (name := waiting.pop()) not in needed | self._made:
                needed.add(name)
                waiting += [word for word in _words(self.statements[name]) if word in self.statements]
        if needed:
            self.con.execute(";\n".join(sql for name, sql in self.statements.items() if name in needed))
            self._made |= needed


def _words(text: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(text)}

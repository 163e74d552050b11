"""Texts of other packages' errors are matched in `compat` alone, and were read in the installed versions."""

import importlib.metadata
import re
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from selfrepair.warehouse import compat

ROOT = Path(__file__).parents[2]
MATCHED = re.compile(r"\bin (str\((error|exc|e)\)|message\b(?!\[))|str\(error\)\.(lower|startswith)|search\(str\(")


@pytest.mark.parametrize(("package", "versions"), compat.TESTED_VERSIONS.items())
def test_texts_were_read_in_the_installed_version(package: str, versions: tuple[str, ...]) -> None:
    assert importlib.metadata.version(package) in versions


@pytest.mark.parametrize("folder", ["api", "app", "ingest", "queries", "warehouse"])
def test_no_other_module_asks_the_text_of_an_error(folder: str) -> None:
    users = {path.name for path in (ROOT / folder).rglob("*.py") if MATCHED.search(path.read_text(encoding="utf-8"))}
    assert users <= {"compat.py"}


def test_an_error_of_duckdb_is_known_whichever_class_arrow_gives_it() -> None:
    for kind in (OSError, pa.ArrowInvalid, duckdb.InterruptException):
        assert compat.is_interrupted(kind("INTERRUPT Error: Interrupted!"))
    assert compat.is_out_of_memory(OSError("Out of Memory Error: failed to allocate data"))
    assert not compat.is_interrupted(duckdb.InvalidInputException("INTERRUPT Error: a text of the user's"))


def test_the_system_says_by_number_what_duckdb_says_in_words() -> None:
    refused = PermissionError(13, "Permission denied")
    assert compat.is_denied(refused)
    assert not compat.is_out_of_room(refused)
    assert compat.is_out_of_room(OSError(28, "No space left on device"))


def test_an_internal_error_is_told_without_the_paths_of_this_installation() -> None:
    at = "\n\nStack Trace:\n\n/usr/lib/python3.11/site-packages/_duckdb.so(+0x1a2b) [0x7f]\n"
    error = duckdb.InternalException(f"INTERNAL Error: Attempted to access index 1 within vector of size 0{at}")
    assert compat.without_trace(error) == "INTERNAL Error: Attempted to access index 1 within vector of size 0"
    assert compat.reason(error) == "Attempted to access index 1 within vector of size 0"

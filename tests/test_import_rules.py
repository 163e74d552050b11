"""Data flows one way, and so do imports; nothing outside `ingest` needs torch to be imported."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from selfrepair.app.cli.failures import EXTRAS

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "warehouse": {"warehouse"},
    "ingest": {"ingest", "warehouse"},
    "queries": {"queries", "warehouse"},
    "app": {"app", "queries", "warehouse"},
}
LIGHT = ("warehouse", "queries", "app")
PAGES = ("app/home.py", "app/app_pages/")
"""Scripts that Streamlit runs; to import one is to draw it."""

MODULES = sorted(path.relative_to(ROOT) for folder in MAY_IMPORT for path in (ROOT / folder).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Full names of the modules a file imports, at its top or inside its functions."""
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            yield f"{node.module}.{node.names[0].name}" if node.module == "selfrepair" else str(node.module)


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_go_one_way(path: Path) -> None:
    folder = path.parts[0]
    folders = {name.split(".")[1] for name in imported(path) if name.startswith("selfrepair.")}
    assert folders - MAY_IMPORT[folder] == set(), path


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_light_module_imports_without_the_ingest_extra() -> None:
    light = [path for path in MODULES if path.parts[0] in LIGHT and not path.as_posix().startswith(PAGES)]
    modules = [f"selfrepair.{'.'.join(path.with_suffix('').parts)}" for path in light]
    modules = [name.removesuffix(".__init__") for name in modules]
    assert len(modules) > 10
    run_python(
        f"import importlib, sys\n"
        f"for name in {EXTRAS['ingest']!r}: sys.modules[name] = None\n"
        f"for name in {modules!r}: importlib.import_module(name)"
    )


def test_the_root_command_imports_nothing_but_click() -> None:
    loaded = run_python(
        "import sys, selfrepair.app.cli.main\nprint(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    heavy = {"duckdb", "polars", "pyarrow", "rich", "sqlalchemy"}.union(*EXTRAS.values())
    assert "click" in loaded.split()
    assert heavy.isdisjoint(loaded.split())

"""Data flows one way, and so do imports, between folders and inside them; nothing outside `ingest` needs torch."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from selfrepair.app.cli.failures import EXTRAS

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "warehouse": {"warehouse"},
    "ingest": {"ingest", "warehouse"},
    "queries": {"queries", "warehouse"},
    "app": {"app", "queries", "warehouse"},
    "api": {"api", "app", "queries", "ingest", "warehouse"},
}
WINGS = {
    "warehouse": ["errors", "files", "compat", "schema", "database", "parts", "load", "verify", "cli"],
    "ingest": [
        *(
            "compat",
            "conventions",
            "terms",
            "models",
            "text",
            "demo_model",
            "request",
            "engine",
            "mechanisms",
            "checks",
            "runs",
        ),
        *("fleet", "bench", "cli"),
    ],
    "queries": ["catalog", "marts", "sandbox", "client", "export", "cli"],
    "api": ["_measurements", "_measure", "_demo_model", "__main__"],
    "app": ["compat", "wording", "charts", "data", "components", "controls", "app_pages", "home", "cli", "server"],
}
"""Sub-packages and modules of each folder, in the order of what they are made of: each imports those before it alone."""

FOLDERS = MAY_IMPORT.keys() - {"api"}
LIGHT = ("warehouse", "queries", "app")
PAGES = ("app/home.py", "app/app_pages/")
"""Scripts that Streamlit runs; to import one is to draw it."""

MOST_MODULES = 14
MODULES = sorted(path.relative_to(ROOT) for folder in MAY_IMPORT for path in (ROOT / folder).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Full names of the modules of ours that a file imports, at its top or inside its functions."""
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            # `from selfrepair.ingest import conventions`: what is imported may be a module itself
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.startswith("selfrepair."))


def home(name: str) -> tuple[str, str]:
    """The folder and the wing of a module's full name; what lies at the top of `selfrepair` is in api/."""
    _, folder, *rest = name.split(".")
    return (folder, rest[0] if rest else "") if folder in FOLDERS else ("api", folder)


def test_imports_go_one_way_between_folders() -> None:
    wrong = [
        f"{path} imports {name}"
        for path in MODULES
        for name in imported(path)
        if home(name)[0] not in MAY_IMPORT[path.parts[0]]
    ]
    assert wrong == []


def test_every_wing_has_its_place() -> None:
    for folder, wings in WINGS.items():
        found = {path.with_suffix("").parts[1] for path in MODULES if path.parts[0] == folder}
        assert found - {"__init__"} == set(wings), folder


def test_imports_go_one_way_between_wings() -> None:
    wrong = []
    for path in MODULES:
        folder, wing = path.with_suffix("").parts[:2]
        if wing == "__init__":
            continue  # what a folder offers comes from all its wings
        order = WINGS[folder]
        for name in imported(path):
            other_folder, other = home(name)
            if other_folder == folder and other in order and order.index(other) > order.index(wing):
                wrong.append(f"{path} imports {name}")
    assert wrong == []


def test_a_folder_holds_few_modules() -> None:
    counts = Counter(path.parent.as_posix() for path in MODULES if path.name != "__init__.py")
    assert {folder: n for folder, n in counts.items() if n > MOST_MODULES} == {}


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

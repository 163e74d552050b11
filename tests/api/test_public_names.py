"""What `selfrepair` offers is one list: importable, documented, light, and nothing else is public."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import selfrepair
from selfrepair.app.cli.failures import install_line

ROOT = Path(__file__).parents[2]
FOLDERS = {"app", "ingest", "queries", "warehouse"}
PAGE = ROOT / "docs" / "python.md"


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_list_is_sorted_and_every_name_is_there() -> None:
    assert selfrepair.__all__ == sorted(selfrepair.__all__)
    for name in selfrepair.__all__:
        assert getattr(selfrepair, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'Warehose'"):
        _ = selfrepair.Warehose


def test_nothing_else_is_public() -> None:
    files = {path.stem for path in (ROOT / "api").glob("*.py")}
    assert {name for name in files if not name.startswith("_")} == set()
    shown = {name for name in dir(selfrepair) if not name.startswith("_")}
    imported = {"Any", "TYPE_CHECKING", "import_module"}
    assert shown - FOLDERS - imported == set(selfrepair.__all__) - {"__version__"}


def test_every_name_is_documented_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name in selfrepair.__all__ if f"`{name}`" not in text and f"`selfrepair.{name}`" not in text] == []


def test_mypy_sees_every_file() -> None:
    linked = {path.name: path.resolve() for path in (ROOT / ".typing" / "selfrepair").glob("*.py")}
    assert linked == {path.name: path.resolve() for path in (ROOT / "api").glob("*.py")}


def test_import_loads_nothing_that_takes_long() -> None:
    loaded = run_python("import sys, selfrepair\nprint(*sorted({name.split('.')[0] for name in sys.modules}))").split()
    assert not {"click", "duckdb", "polars", "pyarrow", "torch", "transformers"}.intersection(loaded)


def test_asking_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; from selfrepair import Limits, SelfRepairError, Warehouse"
    assert run_python(code) == ""


def test_measure_without_the_extra_says_what_to_install() -> None:
    code = """
        import sys
        sys.modules["torch"] = None
        try:
            from selfrepair import measure
        except ImportError as error:
            print(error)
    """
    assert install_line("ingest") in run_python(textwrap.dedent(code))


def test_the_command_line_runs_as_a_module() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "selfrepair", "--version"], capture_output=True, text=True, check=True
    )
    assert selfrepair.__version__ in shown.stdout

"""The wheel, as a user gets it: in an empty environment, without torch and with it. No package index is needed."""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import distribution, distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.loaded import loaded

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).parents[2]
UNSET = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "SELFREPAIR_DB")
PIP_WHEEL = (sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "--no-index", "--no-build-isolation")
SHIPPED = ("api", "app", "ingest", "queries", "warehouse", "pyproject.toml", "README.md", "LICENSE")


def run(*command: str | Path, cwd: Path, fails: bool = False) -> str:
    environment = {key: value for key, value in os.environ.items() if key not in UNSET}
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, env=environment)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    source = tmp_path_factory.mktemp("source")
    for name in SHIPPED:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source / name)
    (source / "queries/questions/of_a_test").mkdir()
    (source / "queries/questions/of_a_test/asked_by_a_test.sql").write_text("SELECT 1\n")
    said = run(*PIP_WHEEL, "--wheel-dir", "dist", ".", cwd=source)
    (source / "dist/said.txt").write_text(said)
    (built,) = (source / "dist").glob("*.whl")
    return built


def test_the_build_warns_of_nothing(wheel):
    said = (wheel.parent / "said.txt").read_text()
    assert "running build_py" in said  # pip hides what setuptools says unless it is asked
    assert [line for line in said.splitlines() if "warn" in line.lower() or "deprecat" in line.lower()] == []


def test_the_wheel_holds_every_module_and_every_file_of_data_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        found = {name.removeprefix("selfrepair/") for name in archive.namelist() if name.startswith("selfrepair/")}
    data = (
        "ingest/demo_model/weights/*",
        "ingest/models/families.csv",
        "warehouse/migrations/*.sql",
        "warehouse/published/*.csv",
        "warehouse/verify/*.sql",
        "queries/views/*/*.sql",
        "queries/questions/*/*.sql",
    )
    modules = (f"{folder}/**/*.py" for folder in ("app", "ingest", "queries", "warehouse"))
    wanted = {str(path.relative_to(ROOT)) for pattern in (*data, *modules) for path in ROOT.glob(pattern)}
    wanted |= {path.name for path in (ROOT / "api").glob("*.py")}
    assert found == wanted | {"queries/questions/of_a_test/asked_by_a_test.sql"}


def environment(folder: Path, wheel: Path) -> Path:
    """A fresh virtual environment with the wheel and nothing else in it; its folder of programs."""
    venv.create(folder, symlinks=True)
    programs = folder / "bin"
    pip = (sys.executable, "-m", "pip", "--python", programs / "python")
    run(*pip, "install", "--quiet", "--no-index", "--no-deps", wheel, cwd=folder)
    return programs


def packages_of(programs: Path) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(run(programs / "python", "-c", code, cwd=programs).strip())


def add_required(programs: Path) -> None:
    """Link what the wheel requires, and what that requires, from the packages that these tests run with."""
    into = packages_of(programs)
    (own,) = distributions(path=[str(into)])
    waiting, linked = list(own.requires or ()), set()
    while waiting:
        requirement = Requirement(waiting.pop())
        name = canonicalize_name(requirement.name)
        if name in linked or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        linked.add(name)
        found = distribution(name)
        waiting += found.requires or ()
        for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            (into / top).symlink_to(found.locate_file(top))


@pytest.fixture(scope="module")
def programs(wheel, tmp_path_factory) -> Path:
    """Where the programs of an environment lie that has the wheel and what it requires, and not torch."""
    programs = environment(tmp_path_factory.mktemp("installed"), wheel)
    add_required(programs)
    return programs


@pytest.fixture(scope="module")
def said_without_torch(programs, tmp_path_factory) -> dict[str, str]:
    """What the programs say before torch is there."""
    folder = tmp_path_factory.mktemp("without-torch")
    loaded(folder)
    selfrepair = programs / "selfrepair"
    run(sys.executable, "-m", "pip", "--python", programs / "python", "check", cwd=folder)
    query = ("query", "SELECT count(*) AS n FROM self_repair", "--csv", "--db", "w.duckdb")
    return {
        "import": run(programs / "python", "-c", "import torch", cwd=folder, fails=True),
        "help": run(selfrepair, "--help", cwd=folder),
        "ingest --help": run(selfrepair, "ingest", "--help", cwd=folder),
        "query": run(selfrepair, *query, cwd=folder),
        "ingest": run(selfrepair, "ingest", "--model", "demo", cwd=folder, fails=True),
    }


def test_without_torch_help_and_query_work_and_ingest_says_what_to_install(said_without_torch):
    assert "No module named 'torch'" in said_without_torch["import"]
    assert "ingest" in said_without_torch["help"]
    assert "--batch-size" in said_without_torch["ingest --help"]
    assert said_without_torch["query"].split() == ["n", "864"]
    assert "pip install 'selfrepair[ingest] @ file:///" in said_without_torch["ingest"]
    assert "Traceback" not in said_without_torch["ingest"]


@pytest.mark.usefixtures("said_without_torch")
def test_demo_measures_the_bundled_model_from_the_wheel(programs, tmp_path):
    """Beside all packages that these tests run with."""
    others = [path for path in sys.path if Path(path).name == "site-packages"]
    (packages_of(programs) / "others.pth").write_text("".join(f"{path}\n" for path in others))
    printed = run(programs / "selfrepair", "demo", "--prompts", "2", cwd=tmp_path)
    assert (tmp_path / "selfrepair.duckdb").is_file()
    assert f"{2 * 127 * 6 * 8 * 3:,}" in printed
    where = "import importlib.util; print(importlib.util.find_spec('selfrepair.ingest.runs.plan').origin)"
    assert str(ROOT) not in run(programs / "python", "-c", where, cwd=tmp_path)
    assert "rules hold" in run(programs / "selfrepair", "verify", cwd=tmp_path)

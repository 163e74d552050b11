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
def with_torch(wheel, tmp_path_factory) -> Path:
    """The wheel beside all packages that these tests run with."""
    programs = environment(tmp_path_factory.mktemp("with-torch"), wheel)
    others = [path for path in sys.path if Path(path).name == "site-packages"]
    (packages_of(programs) / "others.pth").write_text("".join(f"{path}\n" for path in others))
    return programs


@pytest.fixture(scope="module")
def measured(with_torch, tmp_path_factory) -> tuple[Path, str]:
    """A folder with the demo's warehouse, and what the demo printed."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, run(with_torch / "selfrepair", "demo", "--prompts", "2", cwd=folder)


def test_demo_measures_the_bundled_model_from_the_wheel(measured, with_torch):
    folder, printed = measured
    assert (folder / "selfrepair.duckdb").is_file()
    assert f"{2 * 127 * 6 * 8 * 3:,}" in printed
    where = run(
        with_torch / "python", "-c", "import selfrepair.ingest.runs.plan as plan; print(plan.__file__)", cwd=folder
    )
    assert str(ROOT) not in where
    assert "rules hold" in run(with_torch / "selfrepair", "verify", cwd=folder)


def test_without_torch_help_and_query_work_and_ingest_says_what_to_install(wheel, measured, tmp_path):
    programs = environment(tmp_path / "empty", wheel)
    add_required(programs)
    run(sys.executable, "-m", "pip", "--python", programs / "python", "check", cwd=tmp_path)
    assert "No module named 'torch'" in run(programs / "python", "-c", "import torch", cwd=tmp_path, fails=True)
    assert "ingest" in run(programs / "selfrepair", "--help", cwd=tmp_path)
    assert "--batch-size" in run(programs / "selfrepair", "ingest", "--help", cwd=tmp_path)
    folder, _ = measured
    counted = run(programs / "selfrepair", "query", "SELECT count(*) AS n FROM self_repair", "--csv", cwd=folder)
    assert counted.split() == ["n", str(2 * 127 * 6 * 8 * 3)]
    refused = run(programs / "selfrepair", "ingest", "--model", "demo", cwd=tmp_path, fails=True)
    assert "pip install 'selfrepair[ingest] @ file:///" in refused
    assert "Traceback" not in refused

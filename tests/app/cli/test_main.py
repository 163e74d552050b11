"""The root command: what it lists is there, and what goes wrong is said without a traceback."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

import click
import psutil
import pytest
from click.testing import CliRunner

from selfrepair.app.cli import main as main_module
from selfrepair.app.cli.failures import EXTRAS, _install_line, extra_of, install_line
from selfrepair.app.cli.main import SECTIONS, main
from support.empty import installed

COMMANDS = {name: command for section in SECTIONS.values() for name, command in section.items()}
WITHOUT_INGEST = f"import sys; sys.modules.update(dict.fromkeys({EXTRAS['ingest']!r})); "
HEEDS_CTRL_C = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
MAIN = "from selfrepair.app.cli.main import main; main(prog_name='selfrepair')"


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    return installed(tmp_path)


def loaded(name: str) -> click.Command:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    return command


def selfrepair(*args: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """A real process, as typed in a shell; `before` is Python that runs first."""
    return subprocess.run(
        [sys.executable, "-c", before + MAIN, *args], capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_the_listed_help_is_the_commands_own(name: str) -> None:
    command = loaded(name)
    assert command.name == name
    own = command.short_help or (command.help or "").partition("\n")[0]
    assert COMMANDS[name].help == own


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help(name: str) -> None:
    command = loaded(name)
    assert command.help
    options = [param for param in command.params if isinstance(param, click.Option)]
    assert [option.name for option in options if not option.help] == []
    assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0


def test_help_lists_every_command_under_its_purpose() -> None:
    lines = CliRunner().invoke(main, ["--help"]).output.splitlines()
    for heading, section in SECTIONS.items():
        below = lines[lines.index(f"{heading}:") + 1 :][: len(section)]
        assert [line.split(maxsplit=1) for line in below] == [[name, command.help] for name, command in section.items()]


def test_help_works_without_the_ingest_extra() -> None:
    every = (
        f"{WITHOUT_INGEST}from selfrepair.app.cli.main import main\n"
        f"for name in {list(COMMANDS)}: main([name, '--help'], prog_name='selfrepair', standalone_mode=False)"
    )
    done = subprocess.run([sys.executable, "-c", every], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    shown = [line for line in done.stdout.splitlines() if line.startswith("Usage: ")]
    assert [line.split()[:3] for line in shown] == [["Usage:", "selfrepair", name] for name in COMMANDS]


def test_version_is_the_packages() -> None:
    assert selfrepair("--version").stdout == f"selfrepair, version {version('selfrepair')}\n"


def test_an_unknown_command_is_a_usage_error() -> None:
    done = selfrepair("quary")
    assert done.returncode == 2
    assert "No such command 'quary'. Did you mean 'query'?" in done.stderr


def test_an_error_is_one_message(tmp_path: Path) -> None:
    path = tmp_path / "none.duckdb"
    done = selfrepair("query", "runs", "--db", str(path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: there is no warehouse at {path}.")
    assert "selfrepair demo" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_extra_says_what_to_install(tmp_path: Path) -> None:
    done = selfrepair("demo", "--db", str(tmp_path / "w.duckdb"), before=WITHOUT_INGEST)
    assert done.returncode == 1
    assert done.stderr.endswith(f"which is not installed. Install it: {install_line('ingest')}\n")
    assert done.stderr.startswith("Error: this command needs the package '")


def test_extras_are_found_by_package() -> None:
    assert extra_of("torch.nn.functional") == "ingest"
    assert extra_of("streamlit") == "app"
    assert extra_of("torches") is None


@pytest.mark.parametrize(
    ("origin", "line"),
    [
        ({}, "pip install 'selfrepair[app]'"),
        (
            {"url": "file:///home/me/selfrepair", "dir_info": {"editable": True}},
            "pip install -e '/home/me/selfrepair[app]'",
        ),
        ({"url": "file:///home/my%20code", "dir_info": {}}, "pip install '/home/my code[app]'"),
        (
            {"url": "https://a.example/x.git", "vcs_info": {"vcs": "git", "commit_id": "b54f6f5"}},
            "pip install 'selfrepair[app] @ git+https://a.example/x.git@b54f6f5'",
        ),
        ({"url": "file:///x/s.whl", "archive_info": {}}, "pip install 'selfrepair[app] @ file:///x/s.whl'"),
    ],
)
def test_an_extra_is_installed_from_where_the_package_came_from(origin: dict[str, Any], line: str) -> None:
    assert _install_line("app", origin) == line


def test_this_installation_names_the_folder_it_runs_from() -> None:
    origin = json.loads(distribution("selfrepair").read_text("direct_url.json") or "{}")
    if "dir_info" not in origin:
        pytest.skip("the package was not installed from a folder")
    assert str(Path(main_module.__file__).parents[2]) in install_line("ingest")


def test_a_missing_package_of_no_extra_is_a_bug_with_a_traceback() -> None:
    done = selfrepair("views", before="import sys; sys.modules['duckdb'] = None; ")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_ctrl_c_while_it_waits_is_one_line(warehouse: Path) -> None:
    typed = "sys.stdin = type('Typed', (), {'read': lambda self: signal.raise_signal(signal.SIGINT)})(); "
    done = selfrepair("query", "-", "--db", str(warehouse), before=HEEDS_CTRL_C + typed)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\nInterrupted.\n")


@pytest.mark.slow
def test_ctrl_c_while_duckdb_works_is_one_line(warehouse: Path) -> None:
    endless = "SELECT sum(hash(a.range * b.range)) FROM range(1000000) AS a, range(1000000) AS b"
    process = subprocess.Popen(
        [sys.executable, "-c", HEEDS_CTRL_C + MAIN, "query", endless, "--timeout", "300", "--db", str(warehouse)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until_it_works(process.pid, cpu_s=3)  # what comes before the query takes a third of that
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)  # the query's own limit is ten times that
    finally:
        process.kill()
    assert (process.returncode, out, err) == (130, "", "\nInterrupted.\n")


def wait_until_it_works(pid: int, cpu_s: float) -> None:
    by = time.monotonic() + 60
    process = psutil.Process(pid)
    while sum(one.cpu_times().user for one in (process, *process.children(recursive=True))) < cpu_s:
        assert time.monotonic() < by, "it never did work for so long"
        time.sleep(0.05)


def test_a_closed_pipe_is_silent() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "views"], stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")

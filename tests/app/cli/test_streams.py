"""Where output goes: closed, full, read-only, or of an encoding that lacks its characters."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from selfrepair.app.cli.main import main
from selfrepair.app.cli.run_report import print_report

MAIN = "from selfrepair.app.cli.main import main; main(prog_name='selfrepair')"
CLOSED = "standard output is closed, and the output was not written. Send it to a file or another program."


def refusing() -> io.TextIOWrapper:
    """A stream that the system lets nobody write to."""
    return os.fdopen(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")


@pytest.mark.parametrize("args", [["--help"], ["query", "--help"], ["views"]])
def test_output_that_cannot_be_written_is_an_error_in_words(
    args: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", refusing())
    with pytest.raises(SystemExit) as ended:
        main(args, prog_name="selfrepair")
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"Error: {CLOSED}\n"
    sys.stdout.flush()  # Python does so as it ends, and would exit with 120


def test_a_file_that_the_system_refuses_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("selfrepair.queries.cli.names.screen_width", lambda: (tmp_path / ("a" * 300)).touch())
    with pytest.raises(SystemExit):
        main(["views"], prog_name="selfrepair")
    assert "aaa: File name too long. Mend that, or name another place" in capsys.readouterr().err


def test_any_text_can_be_written_in_any_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "\u6570\u636e"
    for encoding in ("cp1252", "cp437"):
        err = io.BytesIO()
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(err, encoding=encoding, errors="strict"))
        with pytest.raises(SystemExit) as ended:
            main(["runs", "--db", str(folder / "w.duckdb")], prog_name="selfrepair")
        assert ended.value.code == 1
        assert rb"\u6570\u636e/w.duckdb" in err.getvalue()


def test_a_report_that_cannot_be_written_leaves_the_run_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("selfrepair.app.cli.run_report.run_report", lambda db, run_id: "the report")
    monkeypatch.setattr(sys, "stdout", refusing())
    print_report(1, db=Path("w.duckdb"))
    assert capsys.readouterr().err == f"The run is stored; its summary cannot be shown: {CLOSED}\n"


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_the_shell_closed(closed: str) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'"$0" -c "$1" views {closed}', sys.executable, MAIN],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (1 if ">&-" in closed.replace("2>&-", "") else 0)
    assert "Traceback" not in done.stderr
    assert done.stderr in ("", f"Error: {CLOSED}\n")


def test_a_name_that_is_no_text_is_refused_before_duckdb_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["runs", "--db", os.fsdecode(b"/tmp/\xff/w.duckdb")], prog_name="selfrepair")
    assert "xff/w.duckdb' is no text in UTF-8, which DuckDB needs of a name. Rename" in capsys.readouterr().err

"""Requests that schemathesis makes from the OpenAPI document: `python -m support.http_requests` (`make schemathesis`)."""

import subprocess
import sys
import tempfile
from pathlib import Path

from support.browser import COMMAND, free_port
from support.loaded import loaded
from support.templates import share

CHECKS = ("--exclude-checks", "positive_data_acceptance")
"""Not that every request is answered with rows: no schema says which SQL is right, or which names a warehouse has."""


def requested(db: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Serve the file and have requests made; exit code 0 where all answers are as documented. Works in `folder`."""
    port = free_port()
    serve = [*COMMAND[:-1], "serve", "--db", str(db), "--port", str(port)]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert f":{port}" in process.stdout.readline()
        try:
            document = f"http://127.0.0.1:{port}/api/v1/openapi.json"
            command = [sys.executable, "-m", "schemathesis.cli", "run", document, *CHECKS, *options]
            return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        finally:
            process.terminate()


def main() -> None:
    """Try every address of a small warehouse."""
    with tempfile.TemporaryDirectory() as folder:
        share(Path(folder) / "templates")
        done = requested(loaded(Path(folder)), Path(folder), "--max-examples", "5")
    sys.stdout.write(done.stdout + done.stderr)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()

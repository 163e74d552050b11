"""What killed processes left beside a warehouse goes when somebody holds the file, and not before."""

import subprocess
import sys
from pathlib import Path

import pytest

from selfrepair.warehouse.database.connection import open_writer
from selfrepair.warehouse.errors import InUseError

LEAVE = (
    "import sys; from pathlib import Path; from selfrepair.warehouse import files; "
    "path = Path(sys.argv[1]); (path.parent / files.temporary_name(path.name)).touch()"
)
HOLD = "import sys, duckdb; con = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.readline()"


def test_who_cannot_open_the_file_sweeps_nothing(tmp_path: Path) -> None:
    db = tmp_path / "w.duckdb"
    with open_writer(db):
        pass
    subprocess.run([sys.executable, "-c", LEAVE, str(db)], check=True)
    (left,) = (path for path in tmp_path.iterdir() if path.name.endswith(".tmp"))
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(db)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(InUseError), open_writer(db, wait_s=0):
            pass
        assert left.exists()
        holder.kill()
    with open_writer(db):
        assert not left.exists()

"""How much faster two processes on the CPU measure a run than one, each with one thread.

    python -m benchmarks.fleet_devices [--prompts N] [--folder FOLDER]

Needs two idle cores for several minutes. The time is that between the begin of the first unit and the end of the last, by the
ledger: loading the model and the cross-check are no part of it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb

_RATE = """
SELECT sum(n_measurements) / epoch(max(measured_at) - min(measured_at - to_microseconds(CAST(seconds * 1e6 AS BIGINT))))
FROM units
"""


def rows_per_second(db: Path, devices: str, prompts: int) -> float:
    """Measure the bundled model on these devices, with one thread a process."""
    command = [sys.executable, "-m", "selfrepair", "ingest", "--model", "demo", "--prompts", str(prompts)]
    subprocess.run(
        [*command, "--devices", devices, "--db", str(db)],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    with duckdb.connect(str(db), read_only=True) as con:
        ((rate,),) = con.execute(_RATE).fetchall()
    return float(rate)


def main() -> None:
    """Print the rate of one process, of two, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=800)
    parser.add_argument("--folder", type=Path, help="where the two warehouses are kept")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        one, two = (rows_per_second(folder / f"{n}.duckdb", f"cpu:{n}", given.prompts) for n in (1, 2))
    print(f"one process {one:,.0f} rows/s, two {two:,.0f}: {two / one:.2f} times")


if __name__ == "__main__":
    main()

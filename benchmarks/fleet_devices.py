"""How much faster two processes on the CPU measure a run than one, each with one thread; and what Ray costs beside them.

    python -m benchmarks.fleet_devices [--prompts N] [--folder FOLDER] [--ray] [--units N]

Needs two idle cores for several minutes. The time is that between the begin of the first unit and the end of the last, by the
ledger: loading the model and the cross-check are no part of it. With `--ray`, both `--devices cpu:2` and `--ray --ray-cpus 1`
measure a run of `--units` units, 6,096 rows for each prompt; CPU seconds are those of the command and all that it starts, from
its begin to its end, as they are seen every 0.2 s.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb
import psutil

_RATE = """
SELECT sum(n_measurements), epoch(max(measured_at) - min(measured_at - to_microseconds(CAST(seconds * 1e6 AS BIGINT)))),
    sum(seconds) / count(DISTINCT worker), count(*)
FROM units WHERE worker IN (SELECT worker FROM units GROUP BY worker HAVING count(*) > $least)
"""
_SEEN_EVERY_S = 0.2

_SHORT = ("--ablation", "mean")
"""Units that are short show what a unit costs beside its measuring."""


def measure(db: Path, prompts: int, *options: str) -> float:
    """Measure the bundled model with these options, with one thread a process; the CPU seconds of all processes."""
    command = [sys.executable, "-m", "selfrepair", "ingest", "--model", "demo", "--prompts", str(prompts)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, *options, "--db", str(db)], stdout=subprocess.DEVNULL, env=environment)
    spent: dict[tuple[int, float], float] = {}
    tree = psutil.Process(process.pid)
    while process.poll() is None:
        for one in [tree, *tree.children(recursive=True)]:
            try:
                times = one.cpu_times()
                spent[one.pid, one.create_time()] = times.user + times.system
            except psutil.Error:
                continue
        time.sleep(_SEEN_EVERY_S)
    if process.returncode:
        sys.exit(process.returncode)
    return sum(spent.values())


def rows_per_second(db: Path, least: int = 0) -> tuple[float, float, int]:
    """Rows per second between the first unit's begin and the last one's end, the share of that time in which a worker
    measured, and how many units; of workers with more than `least`.
    """
    with duckdb.connect(str(db), read_only=True) as con:
        ((rows, seconds, measuring_s, n_units),) = con.execute(_RATE, {"least": least}).fetchall()
    return rows / seconds, measuring_s / seconds, n_units


def main() -> None:
    """Print the rate of one process, of two, and their ratio; or those of two processes and of two actors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, help="default: 800, or 400 with --ray")
    parser.add_argument("--folder", type=Path, help="where the two warehouses are kept")
    parser.add_argument("--units", type=int, default=100, help="with --ray: the units that the prompts are cut into")
    parser.add_argument("--ray", action="store_true", help="compare --ray with --devices")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        if given.ray:
            prompts = given.prompts or 400
            for name, options in (("devices", ["--devices", "cpu:2"]), ("ray", ["--ray", "--ray-cpus", "1"])):
                db = folder / f"{name}.duckdb"
                measure(db, prompts, *_SHORT, "--shard", f"{given.units // 4}/{given.units // 4}")
                cpu_s = measure(db, prompts, *_SHORT, *options)
                rate, share, n_units = rows_per_second(db, least=given.units // 5)
                print(
                    f"{' '.join(options)}: {rate:,.0f} rows/s over {n_units} units, measuring {share:.0%} of the time; "
                    f"{cpu_s:,.0f} CPU seconds in all"
                )
            return
        rates = []
        for n in (1, 2):
            measure(folder / f"{n}.duckdb", given.prompts or 800, "--devices", f"cpu:{n}")
            rates.append(rows_per_second(folder / f"{n}.duckdb")[0])
    print(f"one process {rates[0]:,.0f} rows/s, two {rates[1]:,.0f}: {rates[1] / rates[0]:.2f} times")


if __name__ == "__main__":
    main()

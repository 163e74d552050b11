"""How long `selfrepair status` takes over many units: `python -m benchmarks.status FOLDER`."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import click

from benchmarks.synthetic import Shape, write_run
from selfrepair.warehouse.parts.manifest import MANIFEST, Manifest, MeasuredBy
from selfrepair.warehouse.schema import MECHANISM_TABLES


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--units", default=10_000, show_default=True, help="Finished units of a made-up run, without their rows.")
@click.option("--repeats", default=5, show_default=True, help="Calls; the fastest is shown, too.")
def main(folder: Path, units: int, repeats: int) -> None:
    """Make up a run's part files in FOLDER, and time the whole command, from its start to its end."""
    if not (folder / "many").exists():
        _write_manifests(folder, units)
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "selfrepair", "status", str(folder)], check=True, stdout=subprocess.DEVNULL
        )
        times.append(time.perf_counter() - began)
    click.echo(
        f"status over {units:,} units: {sorted(times)[repeats // 2]:.2f} s (median), {min(times):.2f} s (fastest)"
    )


def _write_manifests(folder: Path, units: int) -> None:
    """A run whose units have manifests as large as with every mechanism, and no other files."""
    parts = write_run(folder, "many", "many", Shape(1, n_layers=1, n_heads=1, seq_len=4))
    record = replace(parts.run(), n_units=units + units // 10)
    (parts.path / "run.json").write_text(record.to_json())
    first = Manifest.from_json((parts.unit_path(0) / MANIFEST).read_text())
    size = first.files["measurements.parquet"]
    every = first.files | {f"{name}.parquet": size for name in MECHANISM_TABLES}
    for unit in range(1, units):
        parts.unit_path(unit).mkdir()
        host = f"node{unit % 64}"
        manifest = replace(first, unit=unit, files=every, by=MeasuredBy(host, "cuda:0", f"{host}:1", 9.5))
        (parts.unit_path(unit) / MANIFEST).write_text(manifest.to_json())


if __name__ == "__main__":
    main()

"""What a dry run predicts and what the run then takes, in time and memory, one after the other: `python -m benchmarks.dry_run`.

Time is that of the processor (user and system): a machine that does something else beside has no say in it. A dry run's time
is the wall's, so that the two compare on an idle machine with OMP_NUM_THREADS=1; its memory is the peak of the process.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import click

_COMMAND = [sys.executable, "-m", "selfrepair", "ingest", "--device", "cpu"]
_CASES = {
    "bundled model": ["--model", "demo", "--prompts", "20"],
    "GPT-2-small's shape": ["--dataset", "random", "--prompts", "8", "--layers", "11"],
}


@click.command()
@click.option("--model", type=click.Path(path_type=Path, exists=True), help="A folder to try as well, on 4 prompts.")
@click.option("--only", help="Only the case of this name.")
def main(model: Path | None, only: str | None) -> None:
    """Compare the dry runs of small runs with the runs."""
    with tempfile.TemporaryDirectory() as folder:
        cases = dict(_CASES)
        if model is not None:
            cases[model.name] = ["--model", str(model), "--prompts", "4", "--layers", "16-17"]
        for name, options in cases.items():
            if only in (None, name):
                shaped = ["--model", str(_gpt2(Path(folder)))] if "GPT-2" in name else []
                _compare(name, [*_COMMAND, *shaped, *options, "--db", f"{folder}/{len(name)}.duckdb"])


def _compare(name: str, command: list[str]) -> None:
    said, *_ = _run([*command, "--dry-run"])
    (duration,) = re.findall(r"time +about ([^:]*):", said)
    (memory,) = re.findall(r"memory +about ([\d,]+) MB", said)
    _, wall_s, processor_s, peak_mb = _run(command)
    predicted_mb, predicted_s = int(memory.replace(",", "")), _seconds(duration)
    click.echo(f"{name}: {predicted_mb:,} MB predicted, {peak_mb:,.0f} MB taken ({predicted_mb / peak_mb - 1:+.0%})")
    click.echo(
        f"    {predicted_s} s predicted, {wall_s:.0f} s taken ({predicted_s / wall_s - 1:+.0%}), {processor_s:.0f} s of it "
        "on the processor"
    )


def _run(command: list[str]) -> tuple[str, float, float, float]:
    """What a command prints; its seconds, by the wall and of the processor; and the peak of its memory [MB]."""
    with tempfile.TemporaryFile("w+") as out:
        began = os.times().elapsed
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, command
        wall_s = os.times().elapsed - began
        out.seek(0)
        return out.read(), wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**10


def _seconds(duration: str) -> int:
    each = {"h": 3600, "min": 60, "s": 1}
    return sum(int(number) * each[unit] for number, unit in re.findall(r"(\d+) (h|min|s)", duration))


def _gpt2(folder: Path) -> Path:
    """A random model of GPT-2-small's shape."""
    import torch
    from transformers import AutoModelForCausalLM, GPT2Config

    if not (folder / "gpt2").exists():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(GPT2Config()).save_pretrained(folder / "gpt2")
    return folder / "gpt2"


if __name__ == "__main__":
    main()

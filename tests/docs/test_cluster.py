"""The scripts of docs/cluster.md, run as they stand: every process that they start has a share of its own, and none is left."""

import os
import re
import stat
import subprocess
from pathlib import Path

import click
import pytest
import yaml

from selfrepair.app.cli.main import main
from selfrepair.ingest.cli.ingest import ingest
from selfrepair.ingest.request.cluster import check_ray
from selfrepair.ingest.request.ingest_request import IngestRequest
from selfrepair.ingest.request.scheduler import placement
from selfrepair.warehouse.cli.commands import load
from support.documents import ROOT

PAGE = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(bash|yaml)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SCRIPTS = {
    heading: BLOCK.findall(text) for heading, text in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
}

# What stands for the programs of a cluster: they start what they are given with the variables that the real ones set.
PROGRAMS = {
    "selfrepair": 'call=$(mktemp "$CALLS/XXXXXX"); { printf "%s\\0" "$@"; printf "\\n\\0"; env -0; } >"$call"',
    "sbatch": r"""
        export SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NTASKS=1
        for word in "$@"; do case $word in
            --dependency=*) [[ $word == --dependency=afterany:4711 ]] || exit 1 ;;
            --wrap=*) bash -c "${word#--wrap=}"; exit ;;
        esac; done
        script=${*: -1}; ids=$(sed -n 's/^#SBATCH --array=//p' "$script")
        if [[ $ids ]]; then
            export SLURM_ARRAY_TASK_MIN=${ids%-*} SLURM_ARRAY_TASK_MAX=${ids#*-} SLURM_ARRAY_TASK_STEP=1
            export SLURM_ARRAY_TASK_COUNT=$((SLURM_ARRAY_TASK_MAX - SLURM_ARRAY_TASK_MIN + 1))
            for id in $(seq ${ids%-*} ${ids#*-}); do SLURM_ARRAY_TASK_ID=$id bash "$script"; done
        else
            nodes=$(sed -n 's/^#SBATCH --nodes=//p' "$script"); each=$(sed -n 's/^#SBATCH --ntasks-per-node=//p' "$script")
            SLURM_NTASKS=$((nodes * each)) SLURM_NNODES=$nodes bash "$script"
        fi
        [[ $* != *--parsable* ]] || echo 4711""",
    "srun": r"""
        export SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=$SLURM_NTASKS SLURM_STEP_NUM_NODES=$SLURM_NNODES
        each=$((SLURM_NTASKS / SLURM_NNODES))
        for i in $(seq 0 $((SLURM_NTASKS - 1))); do SLURM_PROCID=$i SLURM_LOCALID=$((i % each)) "$@"; done""",
    "torchrun": r"""
        while [[ $1 == --* ]]; do [[ $1 != --nproc-per-node=* ]] || n=${1#*=}; shift; done
        for i in $(seq 0 $((n - 1))); do
            RANK=$i WORLD_SIZE=$n LOCAL_RANK=$i LOCAL_WORLD_SIZE=$n GROUP_RANK=0 "$@"
        done""",
    "ssh": 'shift; bash -c "$*"',
}


@pytest.fixture
def run(tmp_path):
    """Run a script in an empty folder; the calls of `selfrepair` in it, each with its words and its environment."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "calls").mkdir()
    (tmp_path / "shared").mkdir()
    for name, text in PROGRAMS.items():
        program = tmp_path / "bin" / name
        program.write_text(f"#!/usr/bin/env bash\n{text}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def _run(script: str, *, submitted: bool = False) -> list[tuple[list[str], dict[str, str]]]:
        here = script.replace("/shared/selfrepair", str(tmp_path / "shared"))
        (tmp_path / "shared" / "measure.sh").write_text(here)
        environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls")}
        command = ["sbatch", "measure.sh"] if submitted else ["bash", "-eu", "-c", here]
        subprocess.run(command, cwd=tmp_path / "shared", env=environment, check=True, timeout=60)
        return [_call(path) for path in sorted((tmp_path / "calls").iterdir())]

    return _run


def _call(path: Path) -> tuple[list[str], dict[str, str]]:
    words, _, variables = path.read_text().partition("\n\0")
    path.unlink()
    return words.split("\0")[:-1], dict(one.split("=", 1) for one in variables.split("\0") if one)


def requested(words: list[str]) -> IngestRequest:
    """What a call of `selfrepair ingest` asks for; its options are real."""
    with ingest.make_context("ingest", words[1:]) as context:
        names = IngestRequest.__dataclass_fields__
        return IngestRequest(**{name: value for name, value in context.params.items() if name in names})


def check(calls: list[tuple[list[str], dict[str, str]]], n: int) -> None:
    """Each of the `n` shares is measured once, and of the same run."""
    runs = [(requested(words), environment) for words, environment in calls if words[0] == "ingest"]
    shards = [placement(request.shard, environment).shard for request, environment in runs]
    assert sorted(map(str, shards)) == sorted(f"{i}/{n}" for i in range(1, n + 1))
    assert len({(request.model, request.n_prompts) for request, _ in runs}) == 1


def check_loads(calls: list[tuple[list[str], dict[str, str]]]) -> None:
    """One load, which says whether all is there."""
    (words,) = [words for words, _ in calls if words[0] != "ingest"]
    with load.make_context("load", words[1:]) as context:
        assert (words[0], context.params["whole"]) == ("load", True)


def scripts(heading: str, kind: str = "bash") -> list[str]:
    (found,) = [blocks for name, blocks in SCRIPTS.items() if name.startswith(heading)]
    return [text for of_kind, text in found if of_kind == kind]


def test_every_script_of_the_page_is_run_here() -> None:
    assert {heading.partition(":")[0]: len(blocks) for heading, blocks in SCRIPTS.items() if blocks} == {
        "Slurm": 2,
        "srun and torchrun": 2,
        "ssh": 1,
        "Kubernetes": 1,
        "Ray": 1,
    }


def test_a_slurm_array_and_its_load(run) -> None:
    measure, submit = scripts("Slurm")
    calls = run(f"cat >measure.sh <<'END'\n{measure}END\n{submit}")
    check(calls, 8)
    check_loads(calls)


def test_srun(run) -> None:
    calls = run(scripts("srun")[0], submitted=True)
    check(calls, 16)
    check_loads(calls)
    locals_ = [placement("auto", env).local_rank for words, env in calls if words[0] == "ingest"]
    assert sorted(locals_) == sorted([*range(8)] * 2)


def test_torchrun(run) -> None:
    calls = run(scripts("srun")[1])
    check(calls, 8)
    check_loads(calls)


def test_ssh(run) -> None:
    (script,) = scripts("ssh")
    calls = run(script)
    check(calls, 3)
    check_loads(calls)


def test_an_indexed_job() -> None:
    spec = yaml.safe_load(scripts("Kubernetes", "yaml")[0])["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    program, *words = container["command"]
    assert (program, spec["completionMode"]) == ("selfrepair", "Indexed")
    check([(words, {"JOB_COMPLETION_INDEX": str(index)}) for index in range(spec["completions"])], spec["completions"])


def test_ray(run) -> None:
    (script,) = scripts("Ray")
    ((words, _),) = run(script)
    request = requested(words)
    check_ray(request)
    assert request.ray == "10.0.0.1:6379"
    assert words[words.index("--parts") + 1].endswith("shared")


def test_what_is_typed_by_hand_on_the_page_is_real() -> None:
    for line in re.findall(r"^    (selfrepair .*?)(?: +#.*)?$", PAGE, re.MULTILINE):
        words = line.split()
        command = main.get_command(click.Context(main), words[1])
        assert command
        command.make_context(words[1], words[2:]).close()

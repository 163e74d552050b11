"""The shard of this process, from whatever environment a scheduler gives it: nobody's share is lost."""

import pytest
import torch

from selfrepair.ingest.request import devices
from selfrepair.ingest.request.scheduler import placement
from selfrepair.warehouse.errors import SelfRepairError


def array(number, *, first=0, count=3, step=1, **more):
    """A task of a Slurm array, as its batch script sees it, whose job has one task unless `more` says otherwise."""
    last = first + step * (count - 1)
    ids = {"ID": number, "COUNT": count, "MIN": first, "MAX": last, "STEP": step}
    found = {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in ids.items()}
    return {**found, "SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_LOCALID": "0", **more}


def torchrun(rank, world, local=None):
    """A process of torchrun, on nodes with `local` processes each, by default all on one."""
    local = local or world
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    return dict(zip(names, map(str, (rank, world, rank % local, local)), strict=True))


def srun(rank, count, local=0):
    names = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_ID", "SLURM_LOCALID")
    return dict(zip(names, map(str, (rank, count, count, 0, local)), strict=True))


def pod(index):
    return {"JOB_COMPLETION_INDEX": str(index)}


def exported(rank, world):
    """What a script may set for others by hand."""
    return {"RANK": str(rank), "WORLD_SIZE": str(world)}


EACH = {  # what is typed, and the environments of all processes that share a run
    "array from 0": ("auto", [array(i) for i in range(3)]),
    "array from 1": ("auto", [array(i, first=1) for i in (1, 2, 3)]),
    "array from 7 in steps": ("auto", [array(i, first=7, count=4, step=5) for i in (7, 12, 17, 22)]),
    "array of one task": ("auto", [array(9, first=9, count=1)]),
    "array with the number": ("auto/3", [array(i) for i in range(3)]),
    "array, step not told": ("auto", [{k: v for k, v in array(i).items() if k[-4:] not in ("STEP", "_MAX")} for i in range(3)]),
    "array, jobs of many tasks without srun": ("auto", [array(i, SLURM_NTASKS="8") for i in range(3)]),
    "torchrun": ("auto", [torchrun(i, 4) for i in range(4)]),
    "torchrun on two nodes": ("auto", [torchrun(i, 4, 2) for i in range(4)]),
    "torchrun in a batch script": ("auto", [{**torchrun(i, 2), "SLURM_PROCID": "0", "SLURM_NTASKS": "8"} for i in range(2)]),
    "srun": ("auto", [srun(i, 5) for i in range(5)]),
    "srun of part of the job": ("auto", [{**srun(i, 2), "SLURM_NTASKS": "8"} for i in range(2)]),
    "a job of one task": ("auto", [{"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}]),
    "indexed job": ("auto/3", [pod(i) for i in range(3)]),
    "torchrun in each task of an array": ("auto", [array(i, **torchrun(k, 2)) for i in range(3) for k in range(2)]),
    "torchrun on two nodes in each task": ("auto", [array(i, **torchrun(k, 4, 2)) for i in range(3) for k in range(4)]),
    "srun in each task of an array": ("auto", [{**array(i), **srun(k, 2)} for i in range(3) for k in range(2)]),
    "torchrun over the nodes of srun": ("auto", [{**srun(k // 2, 3), **torchrun(k, 6, 2)} for k in range(6)]),
    "torchrun in each task of srun": ("auto", [{**srun(i, 3), **torchrun(k, 2)} for i in range(3) for k in range(2)]),
    "torchrun in each pod": ("auto/3", [{**pod(i), **torchrun(k, 2)} for i in range(3) for k in range(2)]),
    "torchrun over all pods": ("auto", [{**pod(k // 2), **torchrun(k, 6, 2)} for k in range(6)]),
    "torchrun over all pods, told": ("auto/3", [{**pod(k // 2), **torchrun(k, 6, 2)} for k in range(6)]),
    "the array's numbers, exported": ("auto", [array(i, **exported(i, 3)) for i in range(3)]),
    "the step's numbers, exported": ("auto", [{**srun(i, 3), **exported(i, 3)} for i in range(3)]),
}  # fmt: skip


@pytest.mark.parametrize("case", EACH)
def test_every_process_has_a_share_and_every_share_a_process(case):
    typed, environments = EACH[case]
    placed = [placement(typed, environment) for environment in environments]
    n = len(environments)
    assert [(one.shard.index, one.shard.count) for one in placed] == [(i + 1, n) for i in range(n)]
    assert all(one.told.startswith(f"--shard auto is {one.shard}: ") for one in placed)


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        (
            array(12, first=7, count=4, step=5),
            "--shard auto is 2/4: SLURM_ARRAY_TASK_ID=12 of 4 from 7 to 22 in steps of 5",
        ),
        ({**array(1), **srun(0, 1)}, "--shard auto is 2/3: SLURM_ARRAY_TASK_ID=1 of 3 from 0 to 2"),
        (torchrun(2, 4), "--shard auto is 3/4: RANK=2 of WORLD_SIZE=4"),
        (
            array(1, **torchrun(1, 2)),
            "--shard auto is 4/6: SLURM_ARRAY_TASK_ID=1 of 3 from 0 to 2 and RANK=1 of WORLD_SIZE=2",
        ),
        (
            {**srun(1, 3), **torchrun(2, 6, 2)},
            "--shard auto is 3/6: RANK=2 of WORLD_SIZE=6 (SLURM_PROCID=1 of SLURM_STEP_NUM_TASKS=3 is not used: torchrun's "
            "ranks go over all of them)",
        ),
        (
            {**srun(1, 3), **exported(1, 3)},
            "--shard auto is 2/3: SLURM_PROCID=1 of SLURM_STEP_NUM_TASKS=3 (RANK=1 of WORLD_SIZE=3 says the same)",
        ),
    ],
)
def test_what_was_taken_from_where_is_told(environment, told):
    assert placement("auto", environment).told == told


def test_what_is_typed_needs_no_environment():
    for typed, expected in ((None, "1/1"), ("2/3", "2/3")):
        placed = placement(typed, array(1))
        assert (str(placed.shard), placed.told, placed.local_rank) == (expected, "", None)


BAD = {
    "nothing": ("auto", {}, r"found none of SLURM_ARRAY_TASK_ID \(sbatch --array\), RANK and WORLD_SIZE .*--shard 1/8, 2/8"),
    "half of torchrun": ("auto", {"RANK": "1"}, r"found none of .*; RANK alone does not say which\. Start the command"),
    "empty values": ("auto", {"RANK": " ", "WORLD_SIZE": ""}, r"found none of"),
    "gaps in the array": ("auto", {**array(3), "SLURM_ARRAY_TASK_MAX": "9"}, r"from 0 to 9 has gaps.*--array=1-3"),
    "an id between steps": ("auto", array(8, first=7, count=4, step=5), r"has gaps"),
    "an id beyond the last": ("auto", array(3), r"has gaps"),
    "an id before the first": ("auto", array(1, first=2), r"has gaps"),
    "no count": ("auto", {"SLURM_ARRAY_TASK_ID": "1"}, r"needs SLURM_ARRAY_TASK_COUNT, which is not set\. Or name each"),
    "no tasks": ("auto", array(0, count=0), r"SLURM_ARRAY_TASK_COUNT=0 is not a whole number from 1"),
    "no step": ("auto", array(0, step=0), r"SLURM_ARRAY_TASK_STEP=0 is not a whole number from 1"),
    "no processes": ("auto", exported(0, 0), r"WORLD_SIZE=0 is not a whole number from 1"),
    "a negative rank": ("auto", exported(-1, 2), r"RANK=-1 is not a whole number from 0"),
    "a rank in words": ("auto", exported("three", 4), r"RANK=three is not a whole number"),
    "a fraction": ("auto", {**srun(0, 2), "SLURM_PROCID": "1.5"}, r"SLURM_PROCID=1\.5 is not a whole number"),
    "digits of another script": ("auto", exported("٣", 4), r"RANK=٣ is not a whole number"),
    "a rank counted from 1": ("auto", exported(4, 4), r"RANK=4 is not below WORLD_SIZE=4: it is counted from 0"),
    "a batch script without srun": ("auto", {"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, r"7 other tasks\. Put srun before"),
    "pods that nobody counts": ("auto", pod(2), r"JOB_COMPLETION_INDEX=2, and Kubernetes does not say .*--shard auto/8"),
    "more pods than told": ("auto/2", pod(2), r"JOB_COMPLETION_INDEX=2 is not below 2"),
    "another number than there are": ("auto/8", array(1), r"makes 3 shares, so that some would be measured by nobody"),
    "shares of nobody": ("auto/0", pod(0), r"--shard auto/0 would share"),
    "two that share the run": ("auto/3", {**pod(1), **array(1)}, r"found a Slurm array .* Unset one"),
    "ranks of something else": ("auto", array(1, **exported(0, 2)), r"contradict each other: some shares would be"),
    "ranks over other nodes": ("auto", {**srun(0, 3), **torchrun(0, 4, 2)}, r"contradict each other"),
    "a word": ("automatic", array(1), r"--shard automatic is not i/n .*or auto"),
    "a word after it": ("auto/n", array(1), r"--shard auto/n is not i/n"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_would_lose_shares_is_refused_with_the_next_step(case):
    typed, environment, message = BAD[case]
    with pytest.raises(SelfRepairError, match=message):
        placement(typed, environment)


def test_of_several_gpus_each_process_of_a_machine_takes_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def chosen(environment, device="auto", gpus=2):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        return str(devices.choose_device(device, placement("auto", environment).local_rank))

    assert [chosen(torchrun(i, 4, 2)) for i in range(4)] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert [chosen(srun(2 + i, 4, i)) for i in range(2)] == ["cuda:0", "cuda:1"]
    assert chosen(array(2)) == "cuda:0"
    assert chosen(torchrun(3, 4), gpus=1) == "cuda"  # each sees its own alone
    assert chosen(torchrun(1, 2), device="cuda:0") == "cuda:0"
    with pytest.raises(SelfRepairError, match=r"process 3 on this machine, which has 2 GPUs\. Start as many"):
        chosen(torchrun(2, 4))

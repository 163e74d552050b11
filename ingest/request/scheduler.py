"""Which shard this process measures: the one that was typed, or what the scheduler that started the process says.

A scheduler tells its processes their number in environment variables. Several may be set at once, such as torchrun in each
task of a Slurm array: then every process of every task has a share of its own.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from selfrepair.ingest.request.selection import Shard, parse_shard
from selfrepair.warehouse.errors import SelfRepairError

_ARRAY, _STEP = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"), ("SLURM_PROCID", "SLURM_NTASKS")
_TORCHRUN, _JOB = ("RANK", "WORLD_SIZE"), "JOB_COMPLETION_INDEX"
_IN_STEP = ("SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS")
"""What srun sets and a batch script does not have, whose SLURM_PROCID is 0 however many tasks its job may start."""

_BY_HAND = "Or name each share: --shard 1/8, 2/8, ..."


@dataclass(frozen=True)
class Placement:
    """The shard of this process; what it was taken from, in a sentence, empty for one that was typed; the number of the process
    among those on its machine, from 0, None where nobody says; and whether other machines may have started the other shards.
    """

    shard: Shard
    told: str = ""
    local_rank: int | None = None
    on_several_machines: bool = False


@dataclass(frozen=True)
class _Place:
    """The `index`-th process, from 0, of `count` that one launcher started; `told` are its variables."""

    index: int
    count: int
    told: str


def placement(text: str | None, environment: Mapping[str, str]) -> Placement:
    """`2/3` as it is typed, `auto` from the environment of Slurm or torchrun, `auto/8` also of a Kubernetes indexed Job, which
    does not tell its processes how many they are.

    Raises SelfRepairError where nothing is set, where a value is nonsense, and where two launchers contradict each other, so
    that shares would be measured by nobody.
    """
    typed = re.fullmatch(r"auto(?:/(\d{1,9}))?", text or "")
    if typed is None:
        return Placement(parse_shard(text))
    wanted = int(typed[1]) if typed[1] else None
    if wanted == 0:
        raise SelfRepairError("--shard auto/0 would share the run among nobody. Give the number of shares, from 1.")
    found = _Variables(environment)
    outer = _outer(found, wanted)
    places, unused = _nested(found, outer)
    if not places:
        raise _nothing_set(found)
    index, count = 0, 1
    for place in places:
        index, count = index * place.count + place.index, count * place.count
    if wanted not in (None, count) and (outer is None or not outer.told.startswith(_JOB)):
        raise SelfRepairError(
            f"--shard auto/{wanted}, but {_list(places)} makes {count} shares, so that some would be measured by nobody. Use "
            f"--shard auto, or start {wanted} processes."
        )
    shard = Shard(index + 1, count)
    told = f"--shard auto is {shard}: {_list(places)}{unused}"
    nodes = found.number("SLURM_STEP_NUM_NODES", default=1) if any(map(found.has, _IN_STEP)) else 1
    several = count > 1 and (outer is not None or _groups(found) > 1 or nodes > 1)
    return Placement(shard, told, _local_rank(found), several)


class _Variables:
    """Environment variables that are set, and numbers among them."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._values = {name: value.strip() for name, value in environment.items()}

    def has(self, *names: str) -> bool:
        """Whether all of them are set, and to something."""
        return all(self._values.get(name) for name in names)

    def text(self, name: str) -> str:
        """`RANK=3`, for a reader."""
        return f"{name}={self._values.get(name, '')!r}".replace("'", "")

    def number(self, name: str, default: int | None = None, least: int = 0) -> int:
        """A whole number from `least`. Raises SelfRepairError for anything else, and without `default` for none."""
        value = self._values.get(name) or ("" if default is None else str(default))
        if not value:
            raise SelfRepairError(f"--shard auto needs {name}, which is not set. {_BY_HAND}")
        if re.fullmatch(r"[0-9]{1,9}", value) is None or int(value) < least:
            raise SelfRepairError(f"--shard auto: {self.text(name)} is not a whole number from {least}. {_BY_HAND}")
        return int(value)

    def place(self, index: str, count: str) -> _Place:
        """The place that two variables name."""
        place = _Place(self.number(index), self.number(count, least=1), f"{self.text(index)} of {self.text(count)}")
        if place.index >= place.count:
            raise SelfRepairError(
                f"--shard auto: {self.text(index)} is not below {self.text(count)}: it is counted from 0. {_BY_HAND}"
            )
        return place


def _outer(found: _Variables, wanted: int | None) -> _Place | None:
    """The process' task of a Slurm array, or its pod of a Kubernetes Job of `wanted` completions."""
    array, job = found.has(_ARRAY[0]), found.has(_JOB)
    if array and job:
        raise SelfRepairError(
            f"--shard auto found a Slurm array ({found.text(_ARRAY[0])}) and a Kubernetes Job ({found.text(_JOB)}), and cannot "
            f"tell which shares the run. Unset one of them. {_BY_HAND}"
        )
    if array:
        return _array(found)
    if not job or (wanted is None and _groups(found) > 1):
        return None  # torchrun's ranks go over all pods
    if wanted is None:
        raise SelfRepairError(
            f"--shard auto found {found.text(_JOB)}, and Kubernetes does not say of how many. Add the number of the Job's "
            "completions, such as --shard auto/8."
        )
    index = found.number(_JOB)
    if index >= wanted:
        raise SelfRepairError(
            f"--shard auto/{wanted}: {found.text(_JOB)} is not below {wanted}. Give the number of the Job's completions."
        )
    return _Place(index, wanted, f"{found.text(_JOB)} of {wanted}")


def _array(found: _Variables) -> _Place:
    """The task of a Slurm array: ids from any first one, in any equal steps."""
    name, count_name = _ARRAY
    number, count = found.number(name), found.number(count_name, least=1)
    first, step = found.number("SLURM_ARRAY_TASK_MIN"), found.number("SLURM_ARRAY_TASK_STEP", default=1, least=1)
    last = found.number("SLURM_ARRAY_TASK_MAX", default=first + step * (count - 1))
    ids = f"{found.text(name)} of {count} from {first} to {last}" + (f" in steps of {step}" if step > 1 else "")
    index, rest = divmod(number - first, step)
    if last - first != step * (count - 1) or rest or not 0 <= index < count:
        raise SelfRepairError(
            f"--shard auto: {ids} has gaps, so that the tasks cannot be numbered. Submit the array with ids that follow each "
            f"other, such as --array=1-{count}: each task measures only what is missing of its share."
        )
    return _Place(index, count, ids)


def _nested(found: _Variables, outer: _Place | None) -> tuple[list[_Place], str]:
    """The places of this process, the outermost first, and what was set and is not used, in words."""
    places = [outer] if outer else []
    torchrun = found.place(*_TORCHRUN) if found.has(*_TORCHRUN) else None
    step = _step(found, is_alone=outer is None and torchrun is None)
    if step is not None and torchrun is None:
        return places if places and step.count == 1 else [*places, step], ""
    if torchrun is None:
        return places, ""
    if step is not None and step.count > 1:
        places.append(step)
    if not places:
        return [torchrun], ""
    within = places[-1]
    is_array = within.told.startswith(_ARRAY[0])
    groups = _groups(found)
    if torchrun.count == 1 or groups == 1 or (groups > 1 and is_array):
        return [*places, torchrun], ""  # in each of these tasks, a torchrun of its own
    if groups == within.count:
        places[-1] = torchrun
        return places, f" ({within.told} is not used: torchrun's ranks go over all of them)"
    if groups == 0 and (torchrun.index, torchrun.count) == (within.index, within.count):
        return places, f" ({torchrun.told} says the same)"
    raise SelfRepairError(
        f"--shard auto found {within.told} and {torchrun.told}, which contradict each other: some shares would be measured by "
        f"nobody. Unset those that do not share the run. {_BY_HAND}"
    )


def _step(found: _Variables, *, is_alone: bool) -> _Place | None:
    """The task that srun started; with `is_alone`, a batch script that would start others by srun is refused."""
    index, count = _STEP
    if any(map(found.has, _IN_STEP)) and found.has(index):
        return found.place(index, _IN_STEP[1] if found.has(_IN_STEP[1]) else count)
    if not (is_alone and found.has(index, count)):
        return None
    place = found.place(index, count)
    if place.index == 0 and place.count > 1:
        raise SelfRepairError(
            f"--shard auto: {place.told}, but srun did not start this process, so that nobody would measure the shares of the "
            f"{place.count - 1} other tasks. Put srun before the command."
        )
    return place


def _groups(found: _Variables) -> int:
    """Launchers that share torchrun's ranks, one a node; 0 where nobody says."""
    if not found.has(*_TORCHRUN, "LOCAL_WORLD_SIZE"):
        return 0
    world, local = found.place(*_TORCHRUN).count, found.number("LOCAL_WORLD_SIZE", least=1)
    return max(1, world // local)


def _local_rank(found: _Variables) -> int | None:
    for name, belongs in (("LOCAL_RANK", _TORCHRUN), ("SLURM_LOCALID", _STEP[:1])):
        if found.has(name, *belongs):
            return found.number(name)
    return None


def _nothing_set(found: _Variables) -> SelfRepairError:
    alone = "".join(f"; {name} alone does not say which" for name in _TORCHRUN if found.has(name))
    return SelfRepairError(
        f"--shard auto found none of {_ARRAY[0]} (sbatch --array), {' and '.join(_TORCHRUN)} (torchrun), "
        f"{' and '.join(_STEP)} (srun), {_JOB} (Kubernetes indexed Job){alone}. Start the command by one of these. {_BY_HAND}"
    )


def _list(places: list[_Place]) -> str:
    return " and ".join(place.told for place in places)

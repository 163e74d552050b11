"""Whether other machines can see a folder of part files."""

import os
import re
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")

_OF_ONE_MACHINE = frozenset(
    [
        "apfs",
        "bcachefs",
        "btrfs",
        "exfat",
        "ext2",
        "ext3",
        "ext4",
        "f2fs",
        "jfs",
        "overlay",
        "ramfs",
        "tmpfs",
        "vfat",
        "xfs",
        "zfs",
    ]
)
"""File systems of a machine's own disks and memory; those of networks and clusters are many, and of none of these names."""


def disk_of_one_machine(folder: Path, mounts: Path = _MOUNTS) -> str | None:
    """The file system of the folder, or of the one in which it will be made, where it is that of a disk of this machine alone;
    None for any other, and where the system (`mounts`, as Linux has it) does not tell.
    """
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    real, kind = os.path.realpath(folder), None
    longest = -1
    for line in lines:
        found = re.fullmatch(r"\S+ \S+ \S+ \S+ (\S+) .*? - (\S+) .*", line)
        if found is None:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), found[1])
        is_above = real == point or real.startswith(point.rstrip("/") + "/")
        if is_above and len(point) >= longest:  # of two at one place, the later hides the earlier
            longest, kind = len(point), found[2]
    return kind if kind in _OF_ONE_MACHINE else None

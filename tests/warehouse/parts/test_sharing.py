"""A folder that other machines cannot see is known by its file system."""

import pytest

from selfrepair.warehouse.parts.sharing import disk_of_one_machine

MOUNTS = r"""
22 1 0:21 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:30 / /home rw - nfs4 server:/home rw,vers=4.2
31 30 0:31 / /home/scratch rw master:3 - xfs /dev/sdb1 rw
32 22 0:32 / /shared\040disk rw - lustre mgs:/one rw
33 22 0:33 / /over rw - nfs server:/a rw
34 22 0:34 / /over rw - tmpfs tmpfs rw
nonsense
"""


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("/data/parts", "ext4"),
        ("/home/me/parts", None),
        ("/home/scratch/parts", "xfs"),
        ("/home/scratchy/parts", None),
        ("/shared disk/parts", None),
        ("/over", "tmpfs"),
    ],
)
def test_the_innermost_file_system_decides(folder, expected, tmp_path):
    (tmp_path / "mounts").write_text(MOUNTS)
    assert disk_of_one_machine(folder, tmp_path / "mounts") == expected


def test_where_the_system_does_not_tell_nothing_is_said(tmp_path):
    assert disk_of_one_machine(tmp_path, tmp_path / "none") is None

"""Files that are there whole or not at all, on disks that take nothing too."""

import errno
from pathlib import Path

import pytest

from selfrepair.warehouse import files


def test_what_is_not_there_is_removed_on_a_read_only_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, missing_ok: bool = False) -> None:  # as Linux does, which looks for the name after that
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "unlink", refuse)
    files.remove(tmp_path / "none")
    (tmp_path / "one").touch()
    with pytest.raises(OSError, match="Read-only"):
        files.remove(tmp_path / "one")

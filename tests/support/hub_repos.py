"""What a hub holds: models and datasets, each with revisions of files, as the Hugging Face hub describes them."""

import fnmatch
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LFS = ("*.safetensors", "*.bin", "*.duckdb", "*.parquet", "*.arrow", "*.gz", "*.zst")
"""What the hub keeps apart from git and gives from another host, under the SHA-256 of its bytes."""


@dataclass(frozen=True)
class File:
    """A file of a repository: `oid` is git's hash of it, `sha256` that of its bytes."""

    path: str
    content: bytes
    oid: str
    sha256: str
    lfs: bool

    @property
    def etag(self) -> str:
        """What the hub's clients name the file by in their cache."""
        return self.sha256 if self.lfs else self.oid

    def entry(self) -> dict[str, Any]:
        """Its line in the listing of a folder."""
        entry = {"type": "file", "path": self.path, "size": len(self.content), "oid": self.oid}
        lfs = {"oid": self.sha256, "size": len(self.content), "pointerSize": 134}
        return {**entry, "lfs": lfs} if self.lfs else entry


@dataclass(frozen=True)
class Commit:
    """The files of a revision, by path; `sha` names them."""

    sha: str
    files: dict[str, File]

    def tree(self, folder: str, *, recursive: bool) -> list[dict[str, Any]] | None:
        """The listing of a folder, None where there is no such folder."""
        prefix = f"{folder}/" if folder else ""
        inside = [file for path, file in self.files.items() if path.startswith(prefix)]
        if folder and not inside:
            return None
        folders = sorted({head for file in inside for head in _parents(file.path) if head.startswith(prefix)})
        entries = [self.folder_entry(path) for path in folders] + [file.entry() for file in inside]
        return [entry for entry in entries if recursive or "/" not in entry["path"].removeprefix(prefix)]

    def paths(self, asked: Iterable[str]) -> list[dict[str, Any]]:
        """The entries of those paths that there are."""
        folders = {head for path in self.files for head in _parents(path)}
        found = []
        for path in asked:
            if path in self.files:
                found.append(self.files[path].entry())
            elif path in folders:
                found.append(self.folder_entry(path))
        return found

    def folder_entry(self, path: str) -> dict[str, Any]:
        """A folder's line in the listing of the one above it."""
        return {
            "type": "directory",
            "path": path,
            "size": 0,
            "oid": hashlib.sha1(f"{self.sha}{path}".encode()).hexdigest(),
        }


@dataclass
class Repository:
    """A model or dataset; `kind` is `models` or `datasets`, as in the hub's addresses."""

    kind: str
    name: str
    gated: bool = False
    revisions: dict[str, Commit] = field(default_factory=dict)
    tags: set[str] = field(default_factory=set)

    def commit(self, revision: str) -> Commit | None:
        """The files of a branch, a tag or a commit hash."""
        by_hash = {commit.sha: commit for commit in self.revisions.values()}
        return self.revisions.get(revision) or by_hash.get(revision)

    def refs(self) -> dict[str, Any]:
        """Branches and tags, as the hub lists them."""
        named = {
            name: {
                "name": name,
                "ref": f"refs/{'tags' if name in self.tags else 'heads'}/{name}",
                "targetCommit": commit.sha,
            }
            for name, commit in self.revisions.items()
        }
        return {
            "branches": [ref for name, ref in named.items() if name not in self.tags],
            "tags": [ref for name, ref in named.items() if name in self.tags],
            "converts": [],
        }

    def info(self, commit: Commit) -> dict[str, Any]:
        """What the hub tells of a repository, whoever asks."""
        return {
            "_id": hashlib.sha1(self.name.encode()).hexdigest()[:24],
            "id": self.name,
            "sha": commit.sha,
            "private": False,
            "gated": "manual" if self.gated else False,
            "disabled": False,
            "downloads": 3,
            "likes": 5,
            "tags": [],
            "siblings": [{"rfilename": path, "size": len(file.content)} for path, file in commit.files.items()],
        }


def read_folder(folder: Path) -> Commit:
    """The files of a local folder as a revision, whose name depends on paths and bytes alone."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    named = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    return commit_of({name: file_of(name, content) for name, content in named.items()})


def is_lfs(name: str) -> bool:
    """Whether the hub keeps a file of that name apart from git."""
    return any(fnmatch.fnmatch(name, pattern) for pattern in LFS)


def file_of(name: str, content: bytes) -> File:
    """A file with its hashes."""
    oid = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
    return File(name, content, oid=oid, sha256=hashlib.sha256(content).hexdigest(), lfs=is_lfs(name))


def commit_of(files: dict[str, File]) -> Commit:
    """A revision with these files."""
    files = dict(sorted(files.items()))
    digest = hashlib.sha1()
    for file in files.values():
        digest.update(f"{file.path} {file.oid}\n".encode())
    return Commit(digest.hexdigest(), files)


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]

"""Publications that lie elsewhere: on the Hugging Face hub (`hf://datasets/OWNER/NAME[@REVISION]`), in a bucket (`s3://...`).

Their small files are fetched once for each revision, into the user's cache; `remote_files` reads the others. The hub is the one
that HF_ENDPOINT names, and nobody else is sent its token; a bucket is opened with the credentials that AWS's own tools take.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from selfrepair.warehouse import files
from selfrepair.warehouse.database.publication import (
    CARD,
    LONGEST_MANIFEST,
    MANIFEST,
    SMALL_FILE,
    half_published,
    read_manifest,
    sha256_of,
)
from selfrepair.warehouse.errors import SelfRepairError, again

SCHEMES = ("hf://", "s3://")

_HUB = re.compile(r"hf://datasets/([\w.-]+/[\w.-]+)(?:@([^@\s]+))?/?", re.ASCII)
_BUCKET = re.compile(r"s3://([\w.-]+)(?:/([^\s?#]+?))?/?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
TYPE_OF_FILES = "application/octet-stream; sha256="
"""Arrow gives back no other properties of a file in a bucket that it was sent with."""

_ORIGIN = "origin.txt"
_PIECE = 8 * 2**20
_TIMEOUT_S = 30.0


class Source(Protocol):
    """Where a publication lies; `address` names this state of it, as far as there are others."""

    @property
    def address(self) -> str:
        """An address."""

    def sizes(self) -> dict[str, int]:
        """The files there, with their sizes [bytes]. Raises SelfRepairError where they cannot be seen."""

    def read(self, name: str, offset: int, n_bytes: int) -> bytes:
        """That part of a file. Raises SelfRepairError where it cannot be had."""


class Hub:
    """A data set of the hub at a commit, or at the one that a revision has now."""

    def __init__(self, name: str, revision: str | None) -> None:
        self.name = name
        self.revision = revision or "main"
        self._places: dict[str, str] = {}

    @property
    def address(self) -> str:
        """With the commit, once it is known."""
        return f"hf://datasets/{self.name}@{self.revision}"

    def sizes(self) -> dict[str, int]:
        """Also fixes the commit."""
        with self.explained():
            from huggingface_hub import HfApi

            info = HfApi().dataset_info(self.name, revision=self.revision, files_metadata=True, timeout=_TIMEOUT_S)
        if not _COMMIT.fullmatch(str(info.sha)):  # it names a folder of the cache
            raise SelfRepairError(
                f"the hub names no commit of {self.name}, so that it cannot be kept. Is HF_ENDPOINT right?"
            )
        self.revision = str(info.sha)
        return {one.rfilename: one.size or 0 for one in info.siblings or ()}

    def read(self, name: str, offset: int, n_bytes: int) -> bytes:
        """The hub sends its clients on to where a large file is: who has been there goes straight, without the token."""
        with self.explained():
            from huggingface_hub import constants, get_session, hf_hub_url
            from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

            part = {"Range": f"bytes={offset}-{offset + n_bytes - 1}"}
            if place := self._places.get(name):
                response = get_session().get(place, headers=part, timeout=_TIMEOUT_S)
                if response.status_code == 206:
                    return bytes(response.content)
            url = hf_hub_url(self.name, name, repo_type="dataset", revision=self.revision)
            headers = {**build_hf_headers(), **part}
            response = get_session().get(url, headers=headers, follow_redirects=True, timeout=_TIMEOUT_S)
            hf_raise_for_status(response)
            if urlsplit(str(response.url)).netloc != urlsplit(constants.ENDPOINT).netloc:
                self._places[name] = str(response.url)
            content = bytes(response.content)
            return content if response.status_code == 206 else content[offset : offset + n_bytes]

    @contextlib.contextmanager
    def explained(self, doing: str = "read from") -> Iterator[None]:
        """What the hub refuses, as what to do about it."""
        try:
            from huggingface_hub import constants, errors
        except ModuleNotFoundError as error:
            raise missing_package(error) from None
        of = f"hf://datasets/{self.name}"
        try:
            yield
        except errors.GatedRepoError as error:
            raise SelfRepairError(
                f"{of} is gated: accept its conditions on the hub, then log in (hf auth login, or HF_TOKEN), and {again()}."
            ) from error
        except errors.RevisionNotFoundError as error:
            raise SelfRepairError(
                f"{of} has no revision '{self.revision}'. Name a commit, branch or tag of it, or leave out @{self.revision}."
            ) from error
        except errors.RepositoryNotFoundError as error:
            raise SelfRepairError(
                f"there is no data set {self.name} on the hub at {constants.ENDPOINT}, or it is private and you are not "
                "logged in to an account that may read it. Check the name, or log in: hf auth login, or HF_TOKEN"
            ) from error
        except SelfRepairError:
            raise
        except ModuleNotFoundError as error:
            raise missing_package(error) from None
        except (
            Exception
        ) as error:  # of the system, of TLS, of one HTTP library or another, or what it says of a broken upload
            kept = _kept(self.name) if doing == "read from" else ""
            raise SelfRepairError(
                f"{of} cannot be {doing} the hub at {constants.ENDPOINT}: {_first_line(error)} Check the "
                f"network (HF_ENDPOINT, HF_HUB_OFFLINE), then {again()}.{kept}"
            ) from error


class Bucket:
    """A folder of a bucket of S3, or of what speaks its language (AWS_ENDPOINT_URL)."""

    def __init__(self, bucket: str, prefix: str | None) -> None:
        self.address = f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"
        self.root = f"{bucket}/{prefix}" if prefix else bucket
        self._bucket = bucket
        self._fs: Any = None
        self._open: dict[str, Any] = {}
        self.expected: Mapping[str, str] = {}
        """SHA-256 by file, which `read` compares with what each was sent with."""

    def filesystem(self) -> Any:
        """Arrow's, with the credentials and address of the environment."""
        from pyarrow.fs import S3FileSystem, resolve_s3_region

        if self._fs is None:
            endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None
            region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
            if region is None and endpoint is None:
                region = resolve_s3_region(self._bucket)
            self._fs = S3FileSystem(
                endpoint_override=endpoint, region=region or "us-east-1", connect_timeout=10, request_timeout=_TIMEOUT_S
            )
        return self._fs

    def sizes(self) -> dict[str, int]:
        """None where there is no such folder."""
        with self.explained():
            from pyarrow.fs import FileSelector, FileType

            selector = FileSelector(self.root, recursive=True, allow_not_found=True)
            found = self.filesystem().get_file_info(selector)
            if not found and self.filesystem().get_file_info(self._bucket).type == FileType.NotFound:
                raise FileNotFoundError(f"there is no bucket {self._bucket}, or it is not shown to you.")
        return {one.path.removeprefix(f"{self.root}/"): one.size for one in found if one.type == FileType.File}

    def read(self, name: str, offset: int, n_bytes: int) -> bytes:
        """By one request."""
        with self.explained():
            if name not in self._open:
                self._open[name] = self.filesystem().open_input_file(f"{self.root}/{name}")
            data = bytes(self._open[name].read_at(n_bytes, offset))
            wanted = self.expected.get(name)
            if wanted and self.sent_with(name) not in ("", wanted):  # asked after reading: files are replaced
                raise SelfRepairError(f"{name} of {self.address} has been published anew. Ask again.")
            return data

    def sent_with(self, name: str) -> str:
        """The SHA-256 that publishing sent a file with; empty where something else sent it."""
        with self.filesystem().open_input_stream(f"{self.root}/{name}") as stream:
            kind = (stream.metadata() or {}).get("Content-Type", b"").decode(errors="replace")
        return str(kind.removeprefix(TYPE_OF_FILES)) if kind.startswith(TYPE_OF_FILES) else ""

    @contextlib.contextmanager
    def explained(self, doing: str = "read") -> Iterator[None]:
        """What S3 refuses, as what to check."""
        try:
            yield
        except OSError as error:
            reason = _first_line(error)
            raise SelfRepairError(
                f"{self.address} cannot be {doing}: {reason} Check the address, the region (AWS_REGION) and the credentials "
                "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE); AWS_ENDPOINT_URL names a server that is not "
                f"AWS's. Then {again()}."
            ) from error


def source_of(address: str) -> Hub | Bucket:
    """Where an address leads. Raises SelfRepairError for one that is none."""
    if match := _HUB.fullmatch(address):
        return Hub(match[1], match[2])
    if (match := _BUCKET.fullmatch(address)) and ".." not in address.split("/"):
        return Bucket(match[1], match[2])
    raise SelfRepairError(
        f"{address} is no address of a publication. On the hub it is hf://datasets/OWNER/NAME, with @REVISION where one is "
        "meant; in a bucket, s3://BUCKET/FOLDER"
    )


def fetch(address: str) -> Path:
    """The folder of the cache with the small files of a publication, fetched where that revision of it is not there yet.

    Raises SelfRepairError where it cannot be reached, and where it is not whole.
    """
    source = source_of(address)
    if isinstance(source, Hub) and _COMMIT.fullmatch(source.revision):
        folder = _folder_of(source, "")
        if origin_of(folder):
            return folder
    sizes = source.sizes()
    if not sizes:
        raise SelfRepairError(
            f"{address} holds nothing. Check the name; or publish there: selfrepair publish {address}"
        )
    if MANIFEST not in sizes:
        raise half_published(address, f"it has no {MANIFEST}, which is written last")
    manifest = source.read(MANIFEST, 0, min(sizes[MANIFEST], LONGEST_MANIFEST + 1))
    entries = read_manifest(manifest, address)
    for name, entry in entries.items():
        if sizes.get(name) != entry.size:
            raise half_published(address, f"{name} has {sizes.get(name, 0):,} of {entry.size:,} bytes")
    folder = _folder_of(source, hashlib.sha256(manifest).hexdigest()[:12])
    if origin_of(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        files.sweep(folder.parent)
        temporary = folder.parent / files.temporary_name(folder.name)
        temporary.mkdir()
        try:
            for name in (SMALL_FILE, CARD):
                if name in entries:
                    _fetch_file(source, name, entries[name].size, temporary / name)
                    if sha256_of(temporary / name) != entries[name].sha256:
                        raise half_published(address, f"{name} is another than {MANIFEST} says")
            files.write_file(temporary / MANIFEST, manifest)
            files.write_file(temporary / _ORIGIN, source.address.encode())
            with contextlib.suppress(FileExistsError, OSError):  # another process was faster
                temporary.rename(folder)
            if not origin_of(folder):
                raise OSError(f"{folder} cannot be made")
        finally:
            files.remove(temporary)
    except OSError as error:
        raise SelfRepairError(
            f"{address} cannot be kept in {_root()}: {error.strerror or error}. Make room there, or name another folder: "
            "SELFREPAIR_CACHE"
        ) from error
    return folder


def origin_of(path: Path) -> str:
    """The address of the Parquet files of a publication, where they do not lie in its folder: only a folder of the user's own
    cache leads elsewhere. Whatever else lies in a folder that somebody sent contacts nobody.
    """
    try:
        if not path.resolve().is_relative_to(_root().resolve()):
            return ""
        return files.read_file(path / _ORIGIN).decode()
    except (OSError, ValueError):
        return ""


def _first_line(error: Exception) -> str:
    """What happened, of an error that says more in further lines; of its cause, where it has one."""
    text = str(error.__cause__ or error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


def _fetch_file(source: Source, name: str, size: int, path: Path) -> None:
    with path.open("xb") as file:
        for offset in range(0, size, _PIECE):
            file.write(source.read(name, offset, min(_PIECE, size - offset)))
        file.flush()
        os.fsync(file.fileno())


def _root() -> Path:
    given = os.environ.get("SELFREPAIR_CACHE")
    cache = Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "selfrepair"
    return cache / "publications"


def _folder_of(source: Hub | Bucket, state: str) -> Path:
    """Named for people: the last part stands in the app and in messages."""
    if isinstance(source, Hub):
        from_hub = _endpoint()
        owner, _, name = source.name.partition("/")
        return _root() / "hub" / re.sub(r"[^\w.-]", "_", from_hub) / owner / f"{name}@{source.revision}"
    *above, name = source.root.split("/")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "aws"
    place = hashlib.sha256("\n".join([endpoint, *above]).encode()).hexdigest()[:12]
    return _root() / "s3" / place / f"{re.sub(r'[^A-Za-z0-9_.=-]', '_', name)}@{state}"


def _endpoint() -> str:
    try:
        from huggingface_hub import constants
    except ModuleNotFoundError as error:
        raise missing_package(error) from None
    parts = urlsplit(constants.ENDPOINT)
    return parts.netloc + parts.path.rstrip("/")  # a mirror may be one of several on its host


def _kept(name: str) -> str:
    """Which revisions can be opened without the hub."""
    owner, _, last = name.partition("/")
    found = sorted((_root() / "hub").glob(f"*/{owner}/{last}@*")) if _root().is_dir() else []
    if not found:
        return ""
    return f" What was fetched before opens without it, all but single rows: hf://datasets/{owner}/{found[-1].name}"


def missing_package(error: ModuleNotFoundError) -> SelfRepairError:
    """The error that says which package is not installed, and how it is."""
    return SelfRepairError(
        f"what is published elsewhere needs the package '{error.name}', which is not installed. Install it: pip install "
        "'selfrepair[hub]'"
    )

"""A publication on its way to the hub or into a bucket. What was sent before is not sent again; the state is one or none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from selfrepair.warehouse.database.publication import MANIFEST, read_manifest
from selfrepair.warehouse.database.remote import Bucket, Hub, source_of
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.files import human_bytes

OnNote = Callable[[str], None]
"""Called with a sentence on what happens now."""

_AT_ONCE = 20
"""Files between two notes, and between two questions to the hub which of them it has."""

_TYPE = "application/octet-stream; sha256="
"""Arrow gives back no other properties of a file in a bucket that it was sent with."""

_OF_THE_HUB = {".gitattributes"}
"""What a data set has from its beginning."""


def check_target(address: str) -> None:
    """Raise SelfRepairError where nothing can be published, before anything is read: no address, no credentials."""
    source = source_of(address)
    if isinstance(source, Hub):
        if source.revision != "main":
            raise SelfRepairError(
                f"{address} names a revision, and publishing makes a new one. Leave out @{source.revision}; a tag can be given "
                "on the hub afterwards."
            )
        with source.explained():
            from huggingface_hub import constants, get_token

            if get_token() is None:
                raise SelfRepairError(
                    f"publishing to the hub at {constants.ENDPOINT} needs a token that may write: hf auth login, or HF_TOKEN"
                )


def upload(folder: Path, address: str, *, private: bool = False, on_note: OnNote = lambda text: None) -> str:
    """Send the publication in `folder` to `address`; the address of this state of it.

    On the hub, files are sent first, and then made visible by one commit, which also removes those of an earlier publication
    that are not part of this one: there is a whole publication at any time, or none. In a bucket the manifest is written
    last. Raises SelfRepairError where that fails; given again, it goes on from there.
    """
    source = source_of(address)
    return _to_hub(folder, source, private, on_note) if isinstance(source, Hub) else _to_bucket(folder, source, on_note)


def _to_hub(folder: Path, hub: Hub, private: bool, on_note: OnNote) -> str:
    with hub.explained("written to"):
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
        from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

        api = HfApi()
        api.create_repo(hub.name, repo_type="dataset", private=private or None, exist_ok=True)
        there = hub.sizes()
        old = _old(hub, there)
        if old is None and there.keys() - _OF_THE_HUB:
            some = ", ".join(sorted(there.keys() - _OF_THE_HUB)[:3])
            raise SelfRepairError(
                f"the data set {hub.name} holds something else ({some}), which would be mixed with this publication. Name "
                "another one, or empty it on the hub."
            )
        names = _names(folder)
        added = [CommitOperationAdd(name, str(folder / name)) for name in names]
        deleted = [CommitOperationDelete(name) for name in sorted((old or set()) - set(names)) if name in there]
        n_sent = 0
        disable_progress_bars()  # one for each file
        for first in range(0, len(added), _AT_ONCE):
            some_files = added[first : first + _AT_ONCE]
            api.preupload_lfs_files(hub.name, some_files, repo_type="dataset", free_memory=False)
            n_sent += sum(one.upload_info.size for one in some_files)
            on_note(f"sent {min(first + _AT_ONCE, len(added))} of {len(added)} files, {human_bytes(n_sent)}")
        commit = api.create_commit(
            hub.name, [*added, *deleted], commit_message="Published by selfrepair", repo_type="dataset"
        )
    return f"hf://datasets/{hub.name}@{commit.oid}"


def _to_bucket(folder: Path, bucket: Bucket, on_note: OnNote) -> str:
    there = bucket.sizes()
    old = _old(bucket, there) or set()
    entries = read_manifest((folder / MANIFEST).read_bytes(), str(folder))
    fs = bucket.filesystem()
    names = _names(folder)
    on_note(f"sending {len(names)} files")
    with bucket.explained("written to"):
        for name in names:
            path = f"{bucket.root}/{name}"
            sha256 = entries[name].sha256 if name in entries else ""
            if sha256 and there.get(name) == entries[name].size and _sha256(fs, path) == sha256:
                continue
            with (
                (folder / name).open("rb") as file,
                fs.open_output_stream(path, metadata={"Content-Type": _TYPE + sha256}) as out,
            ):
                while piece := file.read(8 * 2**20):
                    out.write(piece)
        for name in sorted((old & there.keys()) - set(names)):
            fs.delete_file(f"{bucket.root}/{name}")
    return bucket.address


def _old(source: Hub | Bucket, there: dict[str, int]) -> set[str] | None:
    """The files of the publication that is there; None where there is none."""
    if MANIFEST not in there:
        return None
    return {MANIFEST, *read_manifest(source.read(MANIFEST, 0, there[MANIFEST]), source.address)}


def _sha256(fs: Any, path: str) -> str:
    """What a file was sent with; empty where it was sent by something else."""
    with fs.open_input_stream(path) as stream:
        kind = (stream.metadata() or {}).get("Content-Type", b"").decode()
    return str(kind.removeprefix(_TYPE))


def _names(folder: Path) -> list[str]:
    """The files to send; the manifest comes last."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return sorted(names, key=lambda name: (name == MANIFEST, name))

"""A publication on its way to the hub or into a bucket. What was sent before is not sent again; the state is one or none."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selfrepair.warehouse.database.publication import MANIFEST, read_manifest
from selfrepair.warehouse.database.remote import TYPE_OF_FILES, Bucket, Hub, source_of
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.files import human_bytes

OnNote = Callable[[str], None]
"""Called with a sentence on what happens now."""

_AT_ONCE = 20
"""Files between two notes, and between two questions to the hub which of them it has."""

_BEFORE = "selfrepair-publication-before.json"
"""In a bucket, the manifest of the publication that is being replaced: until the new one has its own, there is none to open."""

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
        if (
            old
            and _withholds((folder / MANIFEST).read_bytes())
            and not _withholds(hub.read(MANIFEST, 0, there[MANIFEST]))
        ):
            on_note(
                f"earlier commits of {hub.name} hold text, and anybody who may read the data set can read them: to withhold "
                "it, publish under another name, and delete this data set on the hub"
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
    old = {name for listed in (MANIFEST, _BEFORE) for name in _old(bucket, there, listed) or ()}
    entries = read_manifest((folder / MANIFEST).read_bytes(), str(folder))
    fs = bucket.filesystem()
    with bucket.explained("written to"):
        for name in sorted(there.keys() - old):
            if not bucket.sent_with(name):
                raise SelfRepairError(
                    f"{bucket.address} holds something else ({name}), which would be mixed with this publication. Name another "
                    f"folder of the bucket: {bucket.address}/NAME"
                )
        to_send = [
            name
            for name, one in sorted(entries.items())
            if there.get(name) != one.size or bucket.sent_with(name) != one.sha256
        ]
        to_remove = sorted(there.keys() - entries.keys() - {MANIFEST, _BEFORE})
        on_note(f"sending {len(to_send)} of {len(entries)} files")
        if MANIFEST in there and (to_send or to_remove):
            fs.copy_file(f"{bucket.root}/{MANIFEST}", f"{bucket.root}/{_BEFORE}")
            fs.delete_file(f"{bucket.root}/{MANIFEST}")
            there[_BEFORE] = there[MANIFEST]
        for name in to_send:
            _send(fs, folder / name, f"{bucket.root}/{name}", entries[name].sha256)
        for name in to_remove:
            fs.delete_file(f"{bucket.root}/{name}")
        _send(fs, folder / MANIFEST, f"{bucket.root}/{MANIFEST}", "")
        if _BEFORE in there:
            fs.delete_file(f"{bucket.root}/{_BEFORE}")
    return bucket.address


def _send(fs: Any, file: Path, path: str, sha256: str) -> None:
    with file.open("rb") as data, fs.open_output_stream(path, metadata={"Content-Type": TYPE_OF_FILES + sha256}) as out:
        while piece := data.read(8 * 2**20):
            out.write(piece)


def _old(source: Hub | Bucket, there: dict[str, int], manifest: str = MANIFEST) -> set[str] | None:
    """The files of the publication that is there; None where there is none."""
    if manifest not in there:
        return None
    return {manifest, *read_manifest(source.read(manifest, 0, there[manifest]), source.address)}


def _withholds(manifest: bytes) -> bool:
    """Whether a publication's text is withheld."""
    return bool(json.loads(manifest).get("without_text"))


def _names(folder: Path) -> list[str]:
    """The files to send; the manifest comes last."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return sorted(names, key=lambda name: (name == MANIFEST, name))

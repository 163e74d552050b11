"""A Hugging Face hub on this machine, for the hub's own clients: huggingface_hub, transformers and datasets ask it for models
and datasets that a test made, and need no network.

    with hub.serve() as server:
        server.add("models", "lab/tiny", folder)                       # revision main
        server.add("models", "lab/tiny", other_folder, "step1000")     # another branch
        server.add("datasets", "lab/texts", texts)                     # a folder with train.jsonl, for example
        with hub.ask_only(server.address, cache):                      # this process asks it and nobody else, ...
            ...
        subprocess.run(..., env=hub.environment(server.address, cache))    # ... or another process does

Then `datasets.load_dataset("lab/texts", split="train", streaming=True)` works as with the public hub. The split is in the
file's name (`train.jsonl`, `test.parquet`, `data/train-00000-of-00002.parquet`); a README.md with a card is read, too.

With its `token` (HF_TOKEN), clients may make a data set and upload to it: `create_repo`, `create_commit`, `upload_folder`.

Files of `hub_repos.LFS` come from a second address, as on the public hub. `server.fail`, `break_off` and `stall` spoil what is
asked next, `server.requests` lists what was asked. `token` opens gated repositories; `other_token` is known, and opens none.
"""

import base64
import contextlib
import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from support.hub_repos import Commit, File, Repository, commit_of, file_of, is_lfs, read_folder

_API = re.compile(r"/api/(models|datasets)/(.+?)(?:/(revision|tree|paths-info|refs|commits)(?:/([^/]+))?(?:/(.+))?)?")
_UPLOAD = re.compile(
    r"/api/(models|datasets)/(.+?)/(preupload|commit)/([^/]+)|/(datasets/)?(.+?)\.git/info/lfs/(objects)/batch"
)
_FILE = re.compile(r"/(datasets/)?(.+?)/resolve/([^/]+)/(.+)")


@dataclass(frozen=True)
class Request:
    """What a client asked: `authorized` says whether it sent a token, `range` which bytes it wanted, `elsewhere` whether it
    asked the second address.
    """

    method: str
    path: str
    authorized: bool
    range: str | None
    elsewhere: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass
class _Fault:
    """What happens to the next `times` requests whose method and path match."""

    pattern: str
    times: int
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    bytes_sent: int | None = None
    silent: bool = False


class Hub:
    """The hub: its address, what it holds, what it was asked, and how it fails."""

    token = "hf_lets_in"
    other_token = "hf_is_known_only"

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self.uploaded: dict[str, bytes] = {}
        self._repositories: dict[tuple[str, str], Repository] = {}
        self._names: dict[tuple[str, str], str] = {}
        self._faults: list[_Fault] = []
        self._lock = threading.Lock()
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, answer)) for answer in (_hub, _storage)]
        self.address, self.storage = (f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers)

    def add(
        self, kind: str, name: str, folder: Path, revision: str = "main", *, gated: bool = False, tag: bool = False
    ) -> Commit:
        """Hold the files of `folder` as a revision of one of the `models` or `datasets`: a branch, or a tag."""
        repository = self._repositories.setdefault((kind, name), Repository(kind, name))
        repository.gated |= gated
        repository.revisions[revision] = commit = read_folder(folder)
        if tag:
            repository.tags.add(revision)
        return commit

    def create(self, kind: str, name: str) -> None:
        """Hold a repository of that name, with nothing in it unless there was one."""
        self._repositories.setdefault((kind, name), Repository(kind, name, revisions={"main": commit_of({})}))

    def rename(self, kind: str, old: str, new: str) -> None:
        """Send whoever asks for `old` to `new`, as the public hub does from `gpt2` to `openai-community/gpt2`."""
        self._names[kind, old] = new

    def fail(self, pattern: str, status: int, *, times: int = 1, **headers: str) -> None:
        """Answer the next `times` requests whose method and path match with `status`; `retry_after="0"` is a header."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._faults.append(_Fault(pattern, times, status=status, headers=named))

    def break_off(self, pattern: str, *, after: int, times: int = 1) -> None:
        """Hang up on the next `times` requests that match once `after` bytes of the file are sent."""
        self._faults.append(_Fault(pattern, times, bytes_sent=after))

    def stall(self, pattern: str, *, times: int = 1) -> None:
        """Never answer the next `times` requests that match."""
        self._faults.append(_Fault(pattern, times, silent=True))

    def forgive(self) -> None:
        """Nothing fails any more."""
        self._faults.clear()

    def asked(self, pattern: str) -> list[Request]:
        """The requests so far whose method and path match."""
        return [request for request in self.requests if re.search(pattern, str(request))]

    def take_fault(self, request: Request) -> _Fault | None:
        """The fault that the request meets, used up by it."""
        with self._lock:
            self.requests.append(request)
            for fault in self._faults:
                if fault.times and re.search(fault.pattern, str(request)):
                    fault.times -= 1
                    return fault
        return None

    def repository(self, kind: str, name: str) -> Repository | None:
        """The repository of that name."""
        return self._repositories.get((kind, name))

    def new_name(self, kind: str, name: str) -> str | None:
        """What a repository is called now that had this name; None where none had it."""
        return self._names.get((kind, name))

    def stored(self, sha256: str) -> File | None:
        """The file with these bytes, of any repository."""
        repositories = self._repositories.values()
        files = (file for one in repositories for commit in one.revisions.values() for file in commit.files.values())
        return next((file for file in files if file.sha256 == sha256), None)

    def __enter__(self) -> "Hub":
        for server in self._servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.closing.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()


@contextlib.contextmanager
def serve() -> Iterator[Hub]:
    """A hub that holds nothing yet, and answers as long as the block runs."""
    with Hub() as server:
        yield server


def environment(address: str, cache: Path) -> dict[str, str]:
    """What another process inherits to ask the hub at `address` alone, with a cache of its own and no token."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_OFFLINE"))}
    own = {
        "HF_ENDPOINT": address,
        "HF_HOME": str(cache),
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # datasets would count a download at an address of its own
        "HF_HUB_DISABLE_XET": "1",  # that protocol has servers of its own
        "NO_PROXY": "127.0.0.1",
    }
    return {**kept, **own}


@contextlib.contextmanager
def ask_only(address: str, cache: Path) -> Iterator[None]:
    """Have the clients in this process ask the hub at `address` alone, as `environment` does for another one. They wait as
    long as ever for an answer, but no time before they ask again.

    They read their environment once, when they are imported: each copy of it is replaced.
    """
    import datasets
    import huggingface_hub
    import transformers.utils.hub
    from huggingface_hub import constants

    from selfrepair.ingest.models.hub import access as hub

    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ.keys() - environment(address, cache).keys():
            patch.delenv(name)
        for name, value in environment(address, cache).items():
            patch.setenv(name, value)
        patch.setattr(time, "sleep", lambda seconds: None)
        for name, value in {
            "ENDPOINT": address,
            "HUGGINGFACE_CO_URL_TEMPLATE": address + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(cache / "hub"),
            "HF_TOKEN_PATH": str(cache / "token"),
            "HF_STORED_TOKENS_PATH": str(cache / "stored_tokens"),
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
        }.items():
            patch.setattr(constants, name, value)
        patch.setattr(huggingface_hub.hf_api.api, "endpoint", address)
        patch.setattr(transformers.utils.hub, "_hf_api", None)
        for name, value in {
            "HF_ENDPOINT": address,
            "HUB_DATASETS_URL": address + "/datasets/{repo_id}/resolve/{revision}/{path}",
            "HF_HUB_OFFLINE": False,
            "HF_UPDATE_DOWNLOAD_COUNTS": False,
            "USE_PARQUET_EXPORT": False,  # that is yet another host
        }.items():
            patch.setattr(datasets.config, name, value)
        hub.offline_reason.cache_clear()
        try:
            yield
        finally:
            hub.offline_reason.cache_clear()


def _handler(server: Hub, answer: Any) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            self.body = self.read_body()
            authorization = self.headers.get("Authorization")
            path = unquote(urlsplit(self.path).path)
            self.fault = server.take_fault(
                Request(self.command, path, authorization is not None, self.headers.get("Range"), answer is _storage)
            )
            if self.fault is not None and self.fault.silent:
                server.closing.wait()
                self.close_connection = True
            elif self.fault is not None and self.fault.status != 200:
                self.send(self.fault.status, b"", self.fault.headers)
            else:
                answer(self, server)

        do_GET = do_HEAD = do_POST = do_PUT = handle_one  # noqa: N815

        def read_body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = b""
            while length := int(self.rfile.readline(), 16):
                body += self.rfile.read(length)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def send(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            cut = self.fault.bytes_sent if self.fault is not None else None
            self.wfile.write(body[:cut])
            self.close_connection |= cut is not None

        def log_message(self, *arguments: object) -> None:
            pass

    return Handler


def _hub(handler: Any, server: Hub) -> None:
    """The hub itself: what it knows of repositories, and small files."""
    address = urlsplit(handler.path)
    if handler.command == "POST" and _takes(handler, server, address.path):
        return
    found = _API.fullmatch(address.path)
    if found is not None:
        kind, name, topic, revision, rest = (unquote(part or "") for part in found.groups())
    else:
        found = _FILE.fullmatch(address.path)
        if found is None:
            handler.send(404 if address.path != "/" else 200)
            return
        prefix, name, revision, rest = (unquote(part or "") for part in found.groups())
        kind, topic = "datasets" if prefix else "models", "file"
    token = (handler.headers.get("Authorization") or "").removeprefix("Bearer ")
    if token not in ("", server.token, server.other_token):
        _refuse(handler, 401, "", "Invalid credentials in Authorization header")
        return
    renamed = server.new_name(kind, name)
    if renamed is not None:
        handler.send(307, b"", {"Location": handler.path.replace(f"/{name}/", f"/{renamed}/", 1)})
        return
    repository = server.repository(kind, name)
    if repository is None:
        _refuse(handler, 404 if token else 401, "RepoNotFound", "Repository not found")
        return
    commit = repository.commit(revision or "main")
    if topic == "refs":
        _send_json(handler, repository.refs())
    elif commit is None:
        _refuse(handler, 404, "RevisionNotFound", f"Invalid rev id: {revision}")
    elif topic == "file":
        _send_file(handler, server, repository, commit, rest, token)
    elif topic == "tree":
        entries = commit.tree(rest, recursive="recursive=true" in address.query.lower())
        if entries is None:
            _refuse(handler, 404, "EntryNotFound", f"{rest} does not exist on {revision!r}")
        else:
            _send_json(handler, entries)
    elif topic == "paths-info":
        _send_json(handler, commit.paths(parse_qs(handler.body.decode()).get("paths", [])))
    elif topic == "commits":
        about = {"id": commit.sha, "title": "one", "message": "", "date": "2024-02-23T00:00:00.000Z", "authors": []}
        _send_json(handler, [about])
    else:
        _send_json(handler, repository.info(commit))


def _takes(handler: Any, server: Hub, path: str) -> bool:
    """Answer what is asked on the way of an upload; False where it is another request."""
    found = _UPLOAD.fullmatch(path)
    if found is None and path not in ("/api/repos/create", "/api/validate-yaml"):
        return False
    if (handler.headers.get("Authorization") or "") != f"Bearer {server.token}":
        _refuse(handler, 401, "", "Invalid username or password.")
        return True
    if path == "/api/validate-yaml":
        _send_json(handler, {"errors": [], "warnings": []})
        return True
    if found is None:
        asked = json.loads(handler.body)
        name = f"{asked['organization']}/{asked['name']}"
        server.create(f"{asked['type']}s", name)
        _send_json(handler, {"url": f"{server.address}/{asked['type']}s/{name}"})
        return True
    kind, name, topic, revision = found.groups()[:4]
    repository = server.repository(kind or ("datasets" if found[5] else "models"), unquote(name or found[6]))
    if repository is None:
        _refuse(handler, 404, "RepoNotFound", "Repository not found")
    elif topic == "preupload":
        asked = json.loads(handler.body)["files"]
        files = [
            {"path": one["path"], "uploadMode": "lfs" if is_lfs(one["path"]) else "regular", "shouldIgnore": False}
            for one in asked
        ]
        _send_json(handler, {"files": files})
    elif topic == "commit":
        commit = _committed(server, repository.revisions[revision], handler.body)
        repository.revisions[revision] = commit
        url = f"{server.address}/{repository.kind}/{repository.name}/commit/{commit.sha}"
        _send_json(handler, {"success": True, "commitOid": commit.sha, "commitUrl": url})
    else:
        objects = []
        for one in json.loads(handler.body)["objects"]:
            has = one["oid"] in server.uploaded or server.stored(one["oid"]) is not None
            href = {"href": f"{server.storage}/{one['oid']}"}
            objects.append({**one, **({} if has else {"actions": {"upload": href}})})
        _send_json(handler, {"objects": objects, "transfer": "basic"})
    return True


def _committed(server: Hub, before: Commit, body: bytes) -> Commit:
    """The commit before with the changes that lines of JSON name."""
    files = dict(before.files)
    for line in body.splitlines():
        key, value = (json.loads(line)[name] for name in ("key", "value"))
        if key == "file":
            files[value["path"]] = file_of(value["path"], base64.b64decode(value["content"]))
        elif key == "lfsFile":
            files[value["path"]] = file_of(value["path"], server.uploaded[value["oid"]])
        elif key == "deletedFile":
            del files[value["path"]]
    return commit_of(files)


def _send_file(handler: Any, server: Hub, repository: Repository, commit: Commit, path: str, token: str) -> None:
    about = {"X-Repo-Commit": commit.sha, "Accept-Ranges": "bytes"}
    if repository.gated and token != server.token:
        message = f"Access to {repository.kind[:-1]} {repository.name} is restricted."
        _refuse(handler, 403 if token else 401, "GatedRepo", message)
        return
    file = commit.files.get(path)
    if file is None:
        _refuse(handler, 404, "EntryNotFound", "Entry not found", about)
    elif file.lfs:
        linked = {"X-Linked-Etag": f'"{file.etag}"', "X-Linked-Size": str(len(file.content))}
        handler.send(302, b"", {**about, **linked, "Location": f"{server.storage}/{file.sha256}/{path}"})
    else:
        _send_bytes(handler, file, about)


def _storage(handler: Any, server: Hub) -> None:
    """The other host, with large files."""
    if handler.command == "PUT":
        server.uploaded[hashlib.sha256(handler.body).hexdigest()] = handler.body
        handler.send(200)
        return
    file = server.stored(handler.path.split("/")[1])
    if file is None:
        handler.send(404)
    else:
        _send_bytes(handler, file, {"Accept-Ranges": "bytes"})


def _send_bytes(handler: Any, file: File, headers: dict[str, str]) -> None:
    headers = {**headers, "ETag": f'"{file.etag}"', "Content-Type": "application/octet-stream"}
    size = len(file.content)
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range") or "")
    if wanted is None:
        handler.send(200, file.content, {**headers, "Content-Length": str(size)})
        return
    first, last = int(wanted[1]), min(int(wanted[2] or size - 1), size - 1)
    if first >= size:
        handler.send(416, b"", {"Content-Range": f"bytes */{size}"})
        return
    part = file.content[first : last + 1]
    span = {"Content-Range": f"bytes {first}-{last}/{size}", "Content-Length": str(len(part))}
    handler.send(206, part, {**headers, **span})


def _send_json(handler: Any, value: Any) -> None:
    handler.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})


def _refuse(handler: Any, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
    named = {"X-Error-Code": code, "X-Error-Message": message} if code else {"X-Error-Message": message}
    handler.send(status, b"", {**named, **(headers or {})})

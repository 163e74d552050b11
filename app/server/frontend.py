"""The files of Streamlit's frontend, from memory."""

import mimetypes
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit import file_util


class FrontendInMemory:
    """Answers what asks for one of the frontend's files, each of which has a hash of its content in its name.

    A page takes a hundred of them, and Streamlit looks each up on the disk in a thread of its own: milliseconds of the
    processor for each, which on a small machine the browser waits for.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        root = Path(file_util.get_static_dir())
        self._files = {f"/{path.relative_to(root).as_posix()}": path for path in root.glob("static/*/*")}
        self._contents: dict[str, bytes] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on what asks for anything else."""
        path = scope.get("path", "")
        if scope["type"] != "http" or scope["method"] != "GET" or path not in self._files:
            await self._app(scope, receive, send)
            return
        content = self._contents.get(path)
        if content is None:
            content = self._contents[path] = self._files[path].read_bytes()
        headers = [
            (b"content-type", (mimetypes.guess_type(path)[0] or "application/octet-stream").encode()),
            (b"content-length", str(len(content)).encode()),
            (b"cache-control", b"public, immutable, max-age=31536000"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

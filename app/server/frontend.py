"""The files of Streamlit's frontend, served from memory."""

import mimetypes

from starlette.types import ASGIApp, Receive, Scope, Send

from selfrepair.app.compat import frontend_folder


class FrontendInMemory:
    """ASGI middleware that answers requests for the frontend's files, whose names hold a hash of their content.

    A page loads a hundred of them, and Streamlit looks up each on disk in a thread of its own: milliseconds of processor
    time for each, for which the browser waits on a small machine.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        root = frontend_folder()
        self._files = {f"/{path.relative_to(root).as_posix()}": path for path in root.glob("static/*/*")}
        self._contents: dict[str, bytes] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for a file of the frontend; pass on every other one."""
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

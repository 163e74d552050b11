"""What a page of the app may load: its own files, and nothing else."""

import base64
import re
from functools import cache
from hashlib import sha256

from selfrepair.app.compat import frontend_folder
from selfrepair.app.server.hosts import Authority

_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


@cache
def inline_script_hashes() -> tuple[str, ...]:
    """The scripts that stand in the frontend's index.html, as the policy names them."""
    page = (frontend_folder() / "index.html").read_text(encoding="utf-8")
    digests = (sha256(script.encode()).digest() for script in _INLINE_SCRIPT.findall(page))
    return tuple(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)


def content_policy(scripts: tuple[str, ...], asked: Authority | None) -> str:
    """The Content-Security-Policy of every answer to `asked`. None: of an answer that loads nothing."""
    if asked is None:
        return "default-src 'none'; frame-ancestors 'none'"
    # Older browsers take 'self' for http alone; a policy cannot name an IPv6 address.
    sockets = [] if ":" in asked.host else [f"ws://{asked}", f"wss://{asked}"]
    allowed = {
        "default-src": ["'self'"],
        # The prompt's tokens are drawn by a component that Streamlit's frontend imports from a blob: of its own making.
        # Charts need no 'unsafe-eval': the frontend has Vega interpret its expressions.
        "script-src": ["'self'", "blob:", *scripts],
        "style-src": ["'self'", "'unsafe-inline'"],  # the frontend writes its styles into the page
        "img-src": ["'self'", "data:", "blob:"],
        "font-src": ["'self'", "data:"],  # the grid's own
        "connect-src": ["'self'", *sockets],
        "worker-src": ["'self'"],
        "object-src": ["'none'"],
        "frame-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
    return "; ".join(f"{name} {' '.join(sources)}" for name, sources in allowed.items())

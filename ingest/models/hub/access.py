"""Whether the Hugging Face hub can be reached, and how long its clients wait.

They retry an unreachable hub for half a minute, file by file, and wait without end for some of its answers; no setting
changes either, so one short request comes first.
"""

import functools
import threading
from typing import Any

from huggingface_hub import constants, get_session, is_offline_mode, set_client_factory

from selfrepair.ingest import compat

UNBOUNDED = 3
"""Multiple of HF_HUB_ETAG_TIMEOUT within which an answer must come that the clients would wait for without end."""


@functools.cache
def offline_reason() -> str | None:
    """Why this process does not use the hub, or None: then it answers, whatever it says.

    A hub (or the mirror that HF_ENDPOINT names) that does not answer within HF_HUB_ETAG_TIMEOUT, 10 seconds where that is
    not set, puts the hub's clients into the offline mode of their own: they read their caches and do not try again.
    """
    if is_offline_mode():
        return "HF_HUB_OFFLINE is set, so the hub is not used"
    set_client_factory(_bounded_client)
    failure = _failure()
    if failure is None:
        return None
    compat.use_hub_offline()
    return f"the hub at {constants.ENDPOINT} cannot be reached: {failure}"


def _bounded_client() -> Any:
    """The clients' own HTTP client with an end to every wait: they request a file's headers seven times, and would wait a
    minute for each answer.
    """
    client = compat.hub_http_client()

    def bound(request: Any) -> None:
        timeout_s = constants.HF_HUB_ETAG_TIMEOUT
        waits = request.extensions.get("timeout", {})
        for kind in ("connect", "read", "write", "pool"):
            wait_s = waits.get(kind) or UNBOUNDED * timeout_s
            waits[kind] = min(wait_s, timeout_s) if request.method == "HEAD" else wait_s
        request.extensions["timeout"] = waits

    client.event_hooks = {**client.event_hooks, "request": [*client.event_hooks["request"], bound]}
    return client


def _failure() -> str | None:
    """What went wrong with one request; None for any answer at all."""
    timeout_s = constants.HF_HUB_ETAG_TIMEOUT
    failures = [f"no answer within {timeout_s} s"]

    def head() -> None:
        try:
            get_session().head(constants.ENDPOINT, timeout=timeout_s)
        except Exception as error:  # of the system, of TLS, of a proxy: all mean the same here
            failures.append(str(error) or type(error).__name__)
        else:
            failures.clear()

    # In a thread, because nothing bounds the time of a name look-up.
    request = threading.Thread(target=head, daemon=True)
    request.start()
    request.join(timeout_s)
    return failures[-1] if failures else None

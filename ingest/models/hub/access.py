"""Whether the Hugging Face hub can be asked, and for how long its clients wait. They try an unreachable hub again for half a
minute, file by file, and wait without end for some of its answers; nothing sets either, so one short question comes first.
"""

import functools
import threading
from typing import Any

from huggingface_hub import constants, get_session, is_offline_mode, set_client_factory
from huggingface_hub.utils._http import default_client_factory

UNBOUNDED = 3
"""How many times HF_HUB_ETAG_TIMEOUT an answer may take for which the clients would wait without end."""


@functools.cache
def offline_reason() -> str | None:
    """Why the hub is not asked in this process, or None: then it answers, whatever it says.

    A hub (or the mirror that HF_ENDPOINT names) that does not answer within HF_HUB_ETAG_TIMEOUT, 10 seconds where that is
    not set, puts the hub's clients into the offline mode of their own: they read their caches and do not try again.
    """
    if is_offline_mode():
        return "HF_HUB_OFFLINE is set, so that the hub is not asked"
    set_client_factory(_patient_client)
    failure = _ask()
    if failure is None:
        return None
    constants.HF_HUB_OFFLINE = True
    return f"the hub at {constants.ENDPOINT} cannot be reached: {failure}"


def _patient_client() -> Any:
    """The clients' own HTTP client, but every wait in it ends. They ask for a file's headers seven times, and would wait a
    minute for each answer.
    """
    client = default_client_factory()

    def bound(request: Any) -> None:
        patience_s = constants.HF_HUB_ETAG_TIMEOUT
        waits = request.extensions.get("timeout", {})
        for kind in ("connect", "read", "write", "pool"):
            wait_s = waits.get(kind) or UNBOUNDED * patience_s
            waits[kind] = min(wait_s, patience_s) if request.method == "HEAD" else wait_s
        request.extensions["timeout"] = waits

    client.event_hooks = {**client.event_hooks, "request": [*client.event_hooks["request"], bound]}
    return client


def _ask() -> str | None:
    """What went wrong with one request; None for any answer at all."""
    patience_s = constants.HF_HUB_ETAG_TIMEOUT
    failures = [f"no answer within {patience_s} s"]

    def head() -> None:
        try:
            get_session().head(constants.ENDPOINT, timeout=patience_s)
        except Exception as error:  # of the system, of TLS, of a proxy: all mean the same here
            failures.append(str(error) or type(error).__name__)
        else:
            failures.clear()

    # In a thread, because nothing bounds the time that looking up a name can take.
    asking = threading.Thread(target=head, daemon=True)
    asking.start()
    asking.join(patience_s)
    return failures[-1] if failures else None

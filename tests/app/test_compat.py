"""Private interfaces of other packages are used in one module, and were seen in the installed versions."""

import importlib.metadata
import logging
import re
import threading
from pathlib import Path

import pytest
import streamlit as st

from selfrepair.app import compat

APP = Path(compat.__file__).parent
PRIVATE = re.compile(r"streamlit\.web|altair\.utils|import (env|file|net)_util|from streamlit import \w+_util")


@pytest.mark.parametrize(("package", "version"), compat.TESTED_VERSIONS.items())
def test_private_interfaces_were_seen_in_the_installed_version(package: str, version: str) -> None:
    assert importlib.metadata.version(package) == version


def test_private_interfaces_are_used_in_compat_alone() -> None:
    users = {path.relative_to(APP).as_posix() for path in APP.rglob("*.py") if PRIVATE.search(path.read_text())}
    assert users == {"compat.py"}


def test_without_a_browser_stop_ends_a_script_and_this_thread_alone_is_not_warned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[str] = []
    logger = logging.getLogger("streamlit.runtime.scriptrunner_utils.script_run_context")
    for place in (logger, other := logging.getLogger("selfrepair.test")):
        monkeypatch.setattr(place, "handlers", [noting(shown)])
        monkeypatch.setattr(place, "propagate", False)
    stop, filters = st.stop, list(logger.filters)
    with compat.without_browser():
        st.text("here")
        logger.error("an error")
        other.warning("of ours")
        elsewhere = threading.Thread(target=st.text, args=["elsewhere"], name="elsewhere")
        elsewhere.start()
        elsewhere.join()
        st.stop()
        shown.append("what follows st.stop")
    assert shown[:2] == ["an error", "of ours"]
    assert all(text.startswith("Thread 'elsewhere': missing ScriptRunContext") for text in shown[2:])
    assert (len(shown) > 2, st.stop, logger.filters) == (True, stop, filters)
    with pytest.raises(KeyError), compat.without_browser():
        raise KeyError


def noting(shown: list[str]) -> logging.Handler:
    handler = logging.Handler()
    handler.emit = lambda record: shown.append(record.getMessage())  # type: ignore[method-assign]
    return handler

"""Private interfaces of other packages are used in one module, and were seen in the installed versions."""

import importlib.metadata
import re
from pathlib import Path

import pytest

from selfrepair.app import compat

APP = Path(compat.__file__).parent
PRIVATE = re.compile(r"streamlit\.web|altair\.utils|import (env|file|net)_util|from streamlit import \w+_util")


@pytest.mark.parametrize(("package", "version"), compat.TESTED_VERSIONS.items())
def test_private_interfaces_were_seen_in_the_installed_version(package: str, version: str) -> None:
    assert importlib.metadata.version(package) == version


def test_private_interfaces_are_used_in_compat_alone() -> None:
    users = {path.relative_to(APP).as_posix() for path in APP.rglob("*.py") if PRIVATE.search(path.read_text())}
    assert users == {"compat.py"}

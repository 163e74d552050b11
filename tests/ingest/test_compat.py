"""The versions that `compat` names are those that are installed: an upgrade leads to a look at private interfaces."""

import importlib.metadata
import re
from pathlib import Path

import pytest

from selfrepair.ingest import compat

INGEST = Path(compat.__file__).parent
PRIVATE = re.compile(
    r"from (datasets|huggingface_hub|torch|transformer_lens|transformers)\S*\._|torch\.ops|\._[a-z]\w*_implementation"
)


@pytest.mark.parametrize(("package", "version"), compat.TESTED_VERSIONS.items())
def test_private_interfaces_were_seen_in_the_installed_version(package, version):
    assert importlib.metadata.version(package).partition("+")[0] == version


def test_private_interfaces_are_used_in_compat_alone():
    users = {path.relative_to(INGEST).as_posix() for path in INGEST.rglob("*.py") if PRIVATE.search(path.read_text())}
    assert users == {"compat.py"}

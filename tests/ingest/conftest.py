"""Ingests whose rows are read, and none of the views over them."""

from collections.abc import Iterator

import pytest

from selfrepair.warehouse.load import loader


@pytest.fixture(scope="module")
def without_summaries() -> Iterator[None]:
    """Loading ends with the rows, as where nobody registered an entry point: views take three quarters of its time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader, "AFTER_LOAD", "nobody.after_load")
        yield

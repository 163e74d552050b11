"""What a refused call says."""

from collections.abc import Callable

import pytest

from selfrepair.warehouse.errors import SelfRepairError


def refusal(ask: Callable[[], object]) -> str:
    """The error of a call that is refused."""
    with pytest.raises(SelfRepairError) as raised:
        ask()
    return str(raised.value)

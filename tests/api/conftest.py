"""Small models in memory, measured with few cells of the cross-check."""

import pytest

pytest.importorskip("torch", reason="measuring needs the ingest extra")

from selfrepair.ingest.runs import plan


@pytest.fixture(autouse=True)
def _few_crosschecks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "N_CROSSCHECKS", 6)

"""What the cross-check reads of the rows that were stored, wherever they lie."""

import duckdb
import numpy as np
import pytest

from selfrepair.ingest.conventions import EFFECTS
from selfrepair.ingest.engine.ablation import HeadAblation
from selfrepair.ingest.runs.crosscheck import stored_rows
from selfrepair.ingest.runs.plan import Unit
from support.fabricate import fabricate


@pytest.mark.parametrize("folder", ["layer=5", "ablation=mean", "head=0", "what*[is]?this"])
def test_a_folders_name_is_no_data(tmp_path, folder):
    run = fabricate(n_units=1, post_norms=folder != "layer=5")
    parts = run.write(tmp_path / folder)
    (tmp_path / "whatiis!this").mkdir()
    rows = run.units[0].measurements
    mine = (rows["prompt_id"] == 1) & (rows["layer"] == 2) & (rows["head"] == 3) & (rows["ablation"] == 2)
    with duckdb.connect() as con:
        found = stored_rows(
            con, parts, tmp_path / "w.duckdb", lambda prompt: Unit(0, 0, 3), 1, HeadAblation(2, 3, "zero")
        )
    given = np.stack([rows[name][mine] for name in EFFECTS], axis=-1).astype(float)
    np.testing.assert_allclose(found, np.nan_to_num(given), rtol=0, atol=1e-4)

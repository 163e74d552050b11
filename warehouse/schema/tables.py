"""All tables: importing this module fills `metadata`.

There are no foreign keys: DuckDB then refuses to update a referenced row. `selfrepair verify` looks for orphans.
"""

from selfrepair.warehouse.schema import (  # noqa: F401 (each adds its tables to `metadata`)
    ledger,
    logit_lens,
    measurements,
    mechanisms,
    published,
    runs,
    self_repression,
)
from selfrepair.warehouse.schema.base import metadata

__all__ = ["metadata"]

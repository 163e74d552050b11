"""Links to the Tokens page: a row's prompt, with its position pinned."""

import polars as pl

from selfrepair.app.data.chosen import address


def token_links(rows: pl.DataFrame, label: str) -> list[str]:
    """A link for each of `rows` (prompt_id, pos) to the head `label`, with all else as it is chosen now."""
    return [
        address("tokens", head=label, prompt=str(prompt), pinned=str(pos))
        for prompt, pos in rows.select("prompt_id", "pos").iter_rows()
    ]

"""Tables with sentences in them: every row as high as its text, which a grid would cut off."""

import polars as pl
import streamlit as st

from selfrepair.app.showing.plain import plain


def sentences(rows: pl.DataFrame) -> None:
    """Draw a table of texts, as they are."""
    cells = {name: [plain(text) for text in column] for name, column in rows.to_dict(as_series=False).items()}
    st.table(pl.DataFrame(cells, schema=rows.schema), border="horizontal", hide_index=True)

"""Frames made of words, which polars would cut to fit."""

import polars as pl


class WholeFrame(pl.DataFrame):
    """A frame of texts that prints every row and every word."""

    def __str__(self) -> str:
        with pl.Config(tbl_rows=-1, tbl_cols=-1, fmt_str_lengths=10_000, tbl_hide_dataframe_shape=True):
            return super().__str__()

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self, *, _from_series: bool = False) -> str:
        with pl.Config(tbl_rows=-1, tbl_cols=-1, fmt_str_lengths=10_000):
            return super()._repr_html_(_from_series=_from_series)

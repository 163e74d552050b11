"""The warehouse from Python: questions in, polars frames out."""

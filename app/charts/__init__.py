"""Altair charts of polars frames, without Streamlit."""

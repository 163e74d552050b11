"""Datasets to documents to prompts: rows of tokens, each with its targets and its resample partner."""

"""Summaries of all rows, kept in the file and brought up to date run by run."""

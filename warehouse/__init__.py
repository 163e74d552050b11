"""Keep: part files of measurements become tables of a DuckDB file, each unit exactly once."""

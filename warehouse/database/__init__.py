"""The DuckDB file: opened, locked, migrated, written all or nothing."""

"""A warehouse as a DuckLake: rows in Parquet files, and a catalog that says which of them count."""

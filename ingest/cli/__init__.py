"""The commands that measure: `ingest`, `bench`, `models`, `prompts`."""

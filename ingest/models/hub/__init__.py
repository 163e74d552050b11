"""The Hugging Face hub: snapshots, revisions, and its errors with a next step."""

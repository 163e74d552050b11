"""The Hugging Face hub: snapshots, revisions, and its refusals in words."""

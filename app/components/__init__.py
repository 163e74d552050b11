"""What pages are built of: figures, tables, token text, notes."""

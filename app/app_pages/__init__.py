"""Pages: layout only. Every number on them comes from a view, with its unit and meaning from the comments."""

"""Pages: layout only. Every number comes from a view, its unit and meaning from the column's comment."""

"""Charts of all heads, and of one head."""

"""Show: views become pages and terminal output."""

"""Answers and whole warehouses as files."""

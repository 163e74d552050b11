"""Widgets of several pages; their values stand in the link."""

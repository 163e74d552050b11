"""The commands that store: `load`, `verify`, `runs`, `remove`; tables for a terminal."""

"""Part files into tables, each unit exactly once; and runs out of them again."""

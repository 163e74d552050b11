"""How pages show what they have: pictures, tables, texts, names."""

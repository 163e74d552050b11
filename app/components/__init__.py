"""Building blocks of pages: figures, tables, prompts as coloured text, messages."""

"""Tasks made from templates: prompts with an answer and a foil."""

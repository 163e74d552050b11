"""The bundled model: its name, and the folder it is loaded from."""

from pathlib import Path

DEMO = "demo"
"""The name under which commands know it."""

DEMO_FOLDER = Path(__file__).parents[1] / "demo_model" / "weights"
"""Weights, configuration and tokenizer in Hugging Face format."""

"""The bundled model: its name and its folder."""

from pathlib import Path

DEMO = "demo"
"""Its name in commands."""

DEMO_FOLDER = Path(__file__).parents[1] / "demo_model" / "weights"
"""Weights, configuration and tokenizer in Hugging Face format."""

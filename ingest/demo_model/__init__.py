"""The bundled demo model: a small GPT-2 trained on the standard library, and the scripts that made it."""

from pathlib import Path

DEMO = "demo"
"""The name under which commands know it."""

DEMO_FOLDER = Path(__file__).parent / "weights"
"""Weights, configuration and tokenizer in Hugging Face format."""

"""The bundled demo model: a small GPT-2 trained on the standard library, and the scripts that made it."""

"""Measure: a model and prompts become part files, one row per ablated head, token and ablation."""

"""Colours that mean the same in every picture; told apart by colour-blind eyes, seen on light and dark ground."""

PARTS = {"LayerNorm": "#3d8fd1", "attention": "#e69f00", "MLP": "#009e73"}
"""What gives back, by the names that pages use."""

ABLATIONS = {"resample": "#3d8fd1", "mean": "#e69f00", "zero": "#cc79a7"}
"""Kinds of ablation."""

CATEGORIES = ["#3d8fd1", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#8f7fe0", "#a3a51f", "#56b4e9"]
"""Models, runs and whatever else a picture tells apart, in order."""

REFERENCE = "#8a8f98"
"""Lines that a picture is read against and that are no data."""

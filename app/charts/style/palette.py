"""Colours with the same meaning in every chart: distinct for colour-blind readers, visible on light and dark themes."""

PARTS = {"LayerNorm": "#3d8fd1", "attention": "#e69f00", "MLP": "#009e73", "post-norm": "#cc79a7"}
"""Components of self-repair, by the names that pages use; the last only in models with post-norms."""

ABLATIONS = {"resample": "#3d8fd1", "mean": "#e69f00", "zero": "#cc79a7"}
"""Kinds of ablation."""

CATEGORIES = ["#3d8fd1", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#8f7fe0", "#a3a51f", "#56b4e9"]
"""Models, runs and other categories, in order."""

DIVERGING = {
    "light": ["#2166ac", "#67a9cf", "#d1e5f0", "#f4f4f4", "#fddbb4", "#f1a340", "#b35806"],
    "dark": ["#8cc8ff", "#4a8fd0", "#2b5680", "#262a33", "#7d5220", "#cf8a2e", "#ffc65c"],
}
"""The range "diverging" by theme; its centre is close to the theme's background."""

REFERENCE = "#8a8f98"
"""Reference lines, which are not data."""

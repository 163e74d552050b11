"""Charts of whole models: layers, LayerNorm, agreement with the paper, training."""

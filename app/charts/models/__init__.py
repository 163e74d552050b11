"""Pictures of whole models: layers, LayerNorm, the paper, training."""

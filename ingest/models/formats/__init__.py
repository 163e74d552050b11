"""Weights in other formats than a plain folder: GGUF files, adapters of peft, quantized checkpoints."""

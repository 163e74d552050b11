"""A hub id or a folder becomes a model whose parts are known: blocks, heads, MLPs, norms, unembedding."""

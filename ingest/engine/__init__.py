"""The forward passes: one clean forward, stacks of ablated heads, and the unembedding that reads them."""

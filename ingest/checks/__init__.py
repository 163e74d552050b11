"""The slow way again: hooks, and what is proved on the weights before anything is measured."""

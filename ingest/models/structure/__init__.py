"""Which module of a model plays which part, found out by watching one forward."""

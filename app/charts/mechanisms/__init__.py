"""Charts of the mechanisms: edges, neurons, logit lens, self-repression."""

"""Charts of the mechanisms: edges, neurons, experts, logit lens, self-repression."""

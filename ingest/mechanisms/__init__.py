"""Measurements beside the effects: edges, neurons, logit lens, log-probabilities, self-repression, co-ablation."""

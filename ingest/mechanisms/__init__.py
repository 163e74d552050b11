"""What is measured beside the effects: edges, neurons, logit lens, log-probabilities, self-repression, co-ablation."""

"""Pictures of heads and of single heads."""

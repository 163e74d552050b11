"""What charts share: colours, scales, reference lines."""

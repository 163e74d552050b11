"""What pictures share: colours, scales, reference lines."""

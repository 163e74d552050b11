"""What pages ask the warehouse, and how the answers are kept."""

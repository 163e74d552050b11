"""Rules that hold in every sound warehouse, and the check of all of them."""

"""Part files, the exchange format between measuring and loading."""

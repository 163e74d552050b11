"""Names, units and texts as the screen shows them."""

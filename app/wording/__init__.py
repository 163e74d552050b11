"""Names, units and texts as the app shows them."""

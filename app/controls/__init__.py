"""The widgets: what is chosen, kept in the URL."""

"""The widgets: what is looked at, kept in the URL."""

"""The warehouse for AI assistants: read-only tools of the Model Context Protocol."""

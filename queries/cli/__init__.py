"""The commands that query: `query`, `questions`, `views`, `describe`, `export`, `refresh`."""

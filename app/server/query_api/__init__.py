"""The warehouse over HTTP: tables, views, questions and SQL at addresses that any client can read."""

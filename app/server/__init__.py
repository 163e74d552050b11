"""The app as a process: serving, its frontend, its end."""

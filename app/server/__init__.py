"""The app as a server process: starting it, serving its frontend, ending it."""

"""Runs that are not whole yet, and how they go on."""

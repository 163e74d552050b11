"""The `selfrepair` command, and the commands that measure and report in one go."""

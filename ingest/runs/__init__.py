"""A run: planned, measured unit by unit into part files, cross-checked; resumes where it stopped."""

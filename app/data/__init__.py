"""What pages show and read: what was chosen, SQL, cached results, and part files that are not loaded yet."""

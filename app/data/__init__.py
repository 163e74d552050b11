"""What pages ask the warehouse: SQL, and the answers, kept while the file is the same."""

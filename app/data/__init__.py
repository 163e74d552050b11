"""What pages read: SQL, results cached as long as the warehouse file is unchanged, and part files not loaded yet."""

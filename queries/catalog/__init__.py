"""What can be asked: tables, views and questions with their columns, units and meanings."""

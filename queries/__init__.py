"""Query: the tables of the warehouse become views and data frames."""

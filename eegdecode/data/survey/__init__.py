"""List the contents of a study before preprocessing."""

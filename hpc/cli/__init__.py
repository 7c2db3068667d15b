"""The command line: it turns arguments into plans, and prints."""

"""The command line: from words to plans, and what is printed."""

"""Break a run on purpose, and see whether it ends the same."""

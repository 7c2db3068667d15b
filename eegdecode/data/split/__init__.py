"""Training, validation and test sets."""

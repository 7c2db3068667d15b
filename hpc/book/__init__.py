"""The grant book: what runs were given, what of it was of use, what it may cost yet."""

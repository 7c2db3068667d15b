"""Heads that are solved for, not trained."""

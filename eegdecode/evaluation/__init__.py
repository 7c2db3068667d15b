"""Evaluation: decode the test set, next to chance and baselines."""

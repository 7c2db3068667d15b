"""Inspect files of weights: what is in them, and what a model would load. No code of the file runs."""

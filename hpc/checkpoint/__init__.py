"""Checkpoints: written in the background, complete or not at all, and restored bit for bit."""

"""Drills: break a run on purpose, and check that its results do not change."""

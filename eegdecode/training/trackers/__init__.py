"""Trackers: where people look at the curves of their runs. One interface, and one file for each by its name."""

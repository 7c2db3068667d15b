"""A package of a user's own that adds a stage. No torch, so that a run takes a blink."""

"""Exit codes of the command line, and of what it starts."""

DONE, FAILED, USAGE, REFUSED = 0, 1, 2, 3
STOPPED = 75
"""Saved; it can go on."""
HUNG = 76
"""Hung repeatedly, without any sign of life."""
NEVER = 93
"""Permanent failure: starting it again would change nothing."""

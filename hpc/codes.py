"""Exit codes of the command line, and of what it starts."""

DONE, FAILED, USAGE, REFUSED = 0, 1, 2, 3
STOPPED = 75
"""Stopped and saved; it can continue."""
HUNG = 76
"""Hung repeatedly, with no progress."""
NEVER = 93
"""Permanent failure: starting it again would change nothing."""

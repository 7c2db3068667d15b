"""Exit codes of the command line, and of what it starts."""

DONE, FAILED, USAGE, REFUSED = 0, 1, 2, 3
STOPPED = 75
"""Saved; it can go on."""
HUNG = 76
"""Ended for want of any sign of life, again and again."""
NEVER = 93
"""Wrong for good: to start it again changes nothing."""

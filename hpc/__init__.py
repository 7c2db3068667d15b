"""The batch layer: it turns `python -m hpc.launch STAGE …` into a run that survives failures. It knows no EEG."""

__version__ = "0.1.0"

# Exit codes of the command line and of what it starts. HUNG: ended for want of any sign of life, again and again;
# NEVER: wrong for good, starting it again changes nothing
DONE, FAILED, USAGE, REFUSED, STOPPED, HUNG, NEVER = 0, 1, 2, 3, 75, 76, 93

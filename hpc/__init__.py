"""The batch layer: turns `python -m hpc.launch STAGE …` into a run that survives. Knows nothing of EEG."""

__version__ = "0.1.0"

"""The run folder: its files, the state of a run as read from them, and how to cancel a run."""

"""Readers of formats that mne does not read: `read(path, cfg) -> Opened`, by the table `OURS` in `formats.py`."""

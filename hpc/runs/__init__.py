"""The run folder: what is in it, the state that it tells, and how a run is cancelled."""

"""The plan of a run: its settings, code and resources. Everything is decided here, before anything happens."""

"""Everything decided before anything happens: which run, of which code, with what. Pure."""

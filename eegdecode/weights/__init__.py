"""Files of weights: what is in one, and what of it a model would load."""

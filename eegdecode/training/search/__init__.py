"""Search for settings while training: the learning rate, and runs that are behind others."""

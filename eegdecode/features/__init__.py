"""Features of stimuli: what a network that the user has makes of pictures, sounds, words and films, as targets."""

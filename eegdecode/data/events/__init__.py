"""Events: the times at which stimuli were presented."""

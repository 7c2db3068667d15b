"""What is not the brain: labels of components, muscle activity over time, thresholds of trials."""

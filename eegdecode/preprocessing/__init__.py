"""From a study to its store, step by step."""

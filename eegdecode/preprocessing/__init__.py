"""Preprocessing: from a study of raw recordings to a store, step by step."""

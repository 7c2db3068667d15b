"""Computes finished runs again, says whether the results are the same and why not, and packs them for others."""

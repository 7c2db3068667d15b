"""Metrics, their null distributions and confidence intervals. Numpy only."""

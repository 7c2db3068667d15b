"""Made-up studies with a planted effect, in the layouts that labs have."""

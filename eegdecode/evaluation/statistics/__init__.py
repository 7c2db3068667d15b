"""What metrics share: correlation, confusion matrices, ranks, spectra, nulls, intervals. Numpy and scipy."""

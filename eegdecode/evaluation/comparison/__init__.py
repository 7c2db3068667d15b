"""Several decoders beside one another: their rows, paired tests, ranks over studies."""

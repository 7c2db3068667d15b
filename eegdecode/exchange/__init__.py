"""In and out: data sets of others as a study; a preprocess run as objects of MNE and torch, or as BIDS derivatives."""

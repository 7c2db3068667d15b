"""A cross-validation as one result: which models decode which fold, all folds together, and their page."""

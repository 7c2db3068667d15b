"""The knobs of training, by what they turn. Light to import."""

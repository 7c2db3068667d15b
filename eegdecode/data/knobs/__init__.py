"""The knobs of the data, by what they turn. Light to import."""

"""The knobs of the models, by the kind of network. Light to import."""

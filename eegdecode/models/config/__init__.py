"""The configs of models. Light to import."""

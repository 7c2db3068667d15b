"""The configs of objectives. Light to import."""

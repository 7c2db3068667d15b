"""The knobs of the objectives. Light to import."""

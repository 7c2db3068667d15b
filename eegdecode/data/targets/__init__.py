"""Targets: what is decoded, from sounds, films, tables and labels."""

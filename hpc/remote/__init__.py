"""Runs on a cluster from a machine elsewhere, over ssh: code and config files go there, and `hpc` is run there."""

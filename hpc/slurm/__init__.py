"""Slurm's commands and their answers."""

"""Starts the runs of a plan, in this process, on this machine or as Slurm jobs, and watches them."""

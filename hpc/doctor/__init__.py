"""Probes a site with a few short jobs, and writes its profile with the evidence: `hpc doctor`."""

PROBES = ("nodes", "python", "signal", "requeue", "gpus")
"""The names of the probes; what they do is in in_job.py."""

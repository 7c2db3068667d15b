"""Probes a site with a few short jobs, and writes its profile with the evidence: `hpc doctor`."""

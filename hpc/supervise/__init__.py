"""The supervisor of a job: it starts the ranks, restarts them, requeues the job, and diagnoses what went wrong."""

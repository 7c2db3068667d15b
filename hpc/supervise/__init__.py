"""The process that looks after the ranks of a job: starts them, restarts them, requeues, says what went wrong."""

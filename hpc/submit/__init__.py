"""Start the runs of a plan, here or as Slurm jobs, and watch them."""

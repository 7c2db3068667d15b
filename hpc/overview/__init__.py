"""All runs at a glance: the table of `status`, and the page of all runs, `hpc page`."""

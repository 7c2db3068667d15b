"""`hpc search`: a line for each trial, and one for the trials of all folds."""

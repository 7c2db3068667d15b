"""A package of a user's own: one file for each thing that it adds."""

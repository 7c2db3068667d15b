"""Search over settings: which trial comes next, as a function of the runs before it."""

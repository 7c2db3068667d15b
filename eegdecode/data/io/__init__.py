"""Read recordings of any format, and say what is wrong with a file."""

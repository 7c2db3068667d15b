"""Windows, and batches of them on the device of a rank."""

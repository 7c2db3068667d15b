"""The data: from raw recordings to batches."""

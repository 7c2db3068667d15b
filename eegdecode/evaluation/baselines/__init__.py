"""The linear decoders that a reviewer would have run."""

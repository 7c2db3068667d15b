"""The store: one immutable HDF5 file a recording, read through memory maps."""

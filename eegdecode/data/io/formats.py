"""The file formats that are read, by the ends of their names."""

OF_MNE = (
    ".edf", ".bdf", ".gdf", ".vhdr", ".set", ".fif", ".fif.gz", ".con", ".sqd", ".ds", ".cnt", ".mff", ".mefd", ".lay",
    ".nxe",
)  # fmt: skip
OURS = {".mat": "eegdecode.data.io.matlab"}
"""The module that reads each other format: read(path, cfg) -> its stream, the edges between its trials, and notes."""
EXTENSIONS = (*OF_MNE, *OURS)

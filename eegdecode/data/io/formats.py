"""The file formats that are read, by the ends of their names."""

OF_MNE = (
    ".edf", ".bdf", ".gdf", ".vhdr", ".set", ".fif", ".fif.gz", ".con", ".sqd", ".ds", ".cnt", ".mff", ".mefd", ".lay",
    ".nxe",
)  # fmt: skip
SOUNDS = (".wav", ".flac", ".ogg", ".oga", ".au")
TABLES = (".csv", ".tsv", ".txt", ".parquet", ".npy", ".npz")
OURS = {
    ".mat": "eegdecode.data.io.matlab",
    ".xdf": "eegdecode.data.io.readers.xdf",
    ".nwb": "eegdecode.data.io.readers.nwb",
    **dict.fromkeys((".csv", ".tsv", ".txt", ".parquet"), "eegdecode.data.io.readers.tables"),
    **dict.fromkeys((".npy", ".npz"), "eegdecode.data.io.readers.arrays"),
    **dict.fromkeys(SOUNDS, "eegdecode.data.io.readers.sound"),
}
"""The module that reads each other format: read(path, cfg) -> Opened."""
EXTENSIONS = (*OF_MNE, ".mat", ".xdf", ".nwb")
"""Of files that are recordings wherever they lie. Tables, arrays and sounds are often something else, unless `files`
names them."""

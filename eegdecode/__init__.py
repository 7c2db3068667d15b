"""The science: from recordings of EEG and MEG to decoders and numbers one can trust."""

"""Where in the head a signal comes from: files of a head, its regions and places, the weights of mne's inverses."""

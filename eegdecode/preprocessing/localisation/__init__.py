"""Where in the head a signal comes from: the files of a head, its regions and places, and the weights of mne's inverses."""

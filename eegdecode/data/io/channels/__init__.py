"""What each channel of a recording is: its kind and its unit, each with the reason for it."""

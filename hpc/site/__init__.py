"""The cluster: its profile, and what it allocates to a request."""

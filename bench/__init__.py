"""Every performance figure we claim, measured beside the peer it is compared with: `python -m bench NAME [--quick]`."""

"""What one rank works with: its context, its process group, its signals, its data near by."""

"""Monitor a training: logs, figures, alerts."""

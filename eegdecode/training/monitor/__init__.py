"""What a training tells people: logs, figures, alerts."""

"""Training: from a store to a trained model."""

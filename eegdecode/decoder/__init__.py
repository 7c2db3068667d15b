"""A trained model outside of a run: in a notebook, in scikit-learn, or as a file for other programs."""

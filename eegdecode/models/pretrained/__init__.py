"""The signals that published weights expect: recipes by name, and the layer that makes such a signal of a study's."""

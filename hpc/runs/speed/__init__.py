"""How the steps of a run spend their time, and which rank or node is slow."""

"""Asks the user a question at the terminal."""

MANY_RUNS = 20
"""A sweep of more is asked about at a terminal."""


def sure(question: str) -> bool:
    return input(f"\n{question} [y/N] ").strip().lower() in ("y", "yes")

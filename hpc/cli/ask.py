"""Asks the user a question at the terminal."""

MANY_RUNS = 20
"""Ask before a sweep with more runs than this is submitted at a terminal."""


def sure(question: str) -> bool:
    return input(f"\n{question} [y/N] ").strip().lower() in ("y", "yes")

"""What processes of a loader are asked to do to windows. In a file of its own: they import it."""

import numpy as np


def plus_place(window: np.ndarray, place: int) -> None:
    window += place


def unlucky(window: np.ndarray, place: int) -> None:
    if place == 21:
        raise ZeroDivisionError("window 21")

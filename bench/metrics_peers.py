"""The peer of bench/metrics.py: loops over scikit-image, by the python that has it, a round at a time."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from skimage.metrics import structural_similarity

WANG = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}


def methods(folder: Path) -> dict[str, Callable[[], np.ndarray]]:
    given = np.load(folder / "pictures.npz")
    trials, pieces, own, data_range = (given[name] for name in ("trials", "pieces", "own", "data_range"))

    def both() -> np.ndarray:
        values = []
        for trial, true in zip(trials, own, strict=True):
            fit = np.array([structural_similarity(trial, piece, data_range=data_range) for piece in pieces])
            worse = (fit < fit[true]).sum() + 0.5 * ((fit == fit[true]).sum() - 1)
            values.append((fit[true], worse / (len(pieces) - 1)))
        return np.array(values).T

    def alone(**how: object) -> np.ndarray:
        pairs = zip(trials, pieces[own], strict=True)
        return np.array([structural_similarity(one, other, data_range=data_range, **how) for one, other in pairs])

    return {"SSIM and rank accuracy": both, "SSIM alone": alone, "SSIM alone, wang": lambda: alone(**WANG)}


def main() -> None:
    """Say which methods there are, then run the one that each line names."""
    folder = Path(json.loads(sys.argv[1]))
    known = methods(folder)
    print(json.dumps(list(known)), flush=True)
    for line in sys.stdin:
        name = line.strip()
        np.save(folder / f"{name}.npy", known[name]())
        print("done", flush=True)


if __name__ == "__main__":
    main()

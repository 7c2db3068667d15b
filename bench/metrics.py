"""SSIM and rank accuracy of 2,000 decoded trials: ours against a loop over scikit-image, in one run.

    python -m bench metrics [--quick] [--peers-python /path/to/venv/bin/python]

Spectrograms of 40 s at 20 Hz, as Daly has them: 19 frequencies by 73 frames, of 36 pieces. scikit-image may live in
another python. The figure we claim compares every trial with all pieces, for the SSIM with its own and the rank of
that; beside it the SSIM with its own alone, in either convention, where nothing is shared between pairs.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from bench.compare import Goal, Peers, ratio, rounds, show
from eegdecode.evaluation.statistics import ranking, ssim

PIECES, SFREQ, DURATION_S = 36, 20.0, 40.0
PEER = "scikit-image"
BOTH = "SSIM and rank accuracy"


def run(quick: bool, peers_python: str = "") -> bool:
    n, n_rounds = (400, 3) if quick else (2000, 3)
    rng = np.random.default_rng(0)
    heard = rng.normal(size=(PIECES, round(DURATION_S * SFREQ), 1))
    own = rng.integers(PIECES, size=n)
    decoded = heard[own] + 3 * rng.normal(size=heard[own].shape)
    pieces, trials = (ranking.spectrograms(ranking.prepared(x, SFREQ), SFREQ)[:, 0] for x in (heard, decoded))
    data_range = float(np.ptp(pieces))
    scores: dict[str, np.ndarray] = {}

    def both() -> None:
        fit = ssim.ssim_of_all(trials, pieces, data_range)
        scores[BOTH] = np.stack([fit[np.arange(n), own], ranking.ranks(fit, own)])

    def alone() -> None:
        scores["SSIM alone"] = ssim.ssim(trials, pieces[own], data_range)

    def wang() -> None:
        scores["SSIM alone, wang"] = ssim.ssim(trials, pieces[own], data_range, "wang")

    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "pictures.npz", trials=trials, pieces=pieces, own=own, data_range=data_range)
        peers = Peers(peers_python or sys.executable, "bench.metrics_peers", folder, "scikit-image")
        ours = {BOTH: both, "SSIM alone": alone, "SSIM alone, wang": wang}
        methods = {f"{name}: ours": method for name, method in ours.items()}
        methods |= {f"{name}: {PEER}": peers.method(name) for name in peers.names}
        seconds = rounds(methods, n_rounds)
        peers.close()
        apart = max(float(np.abs(scores[name] - np.load(Path(folder) / f"{name}.npy")).max()) for name in ours)
    goals = {
        "scikit_image_over_ours": Goal(ratio(seconds, f"{BOTH}: {PEER}", f"{BOTH}: ours"), 10, at_least=True),
        "apart": Goal(apart, 1e-5),
    }
    return show(f"{n} trials, {PIECES} pieces", seconds, f"SSIM alone: {PEER}", goals)

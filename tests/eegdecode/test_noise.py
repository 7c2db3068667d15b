"""All randomness of a window is derived from its key alone."""

import numpy as np
import torch

from eegdecode import noise

KEYS = torch.tensor([0, 1, -5, 2**62])


def test_a_window_draws_the_same_whoever_its_batch_mates_are() -> None:
    for draw in (noise.uniform, noise.normal):
        together = draw(KEYS, 3, 7, 5)
        assert together.shape == (4, 7, 5)
        for row, key in enumerate(KEYS):
            assert torch.equal(draw(key[None], 3, 7, 5)[0], together[row])
        assert not torch.equal(draw(KEYS, 4, 7, 5), together)


def test_draws_are_spread_as_they_should_be() -> None:
    keys = torch.arange(2000)
    flat = noise.uniform(keys, 1, 50)
    counts = torch.histc(flat, 20, 0, 1)
    assert flat.min() >= 0 and flat.max() < 1
    assert ((counts - 5000) ** 2 / 5000).sum() < 45  # chi2 of 19 degrees, p < 0.001
    bell = noise.normal(keys, 1, 50)
    assert abs(bell.mean()) < 0.02 and abs(bell.var() - 1) < 0.02
    assert np.abs(np.corrcoef(bell.T.numpy()) - np.eye(50)).max() < 0.1


def test_a_permutation_holds_each_place_once() -> None:
    drawn = noise.permutation(torch.arange(600), 2, 6)
    assert (drawn.sort(dim=1).values == torch.arange(6)).all()
    firsts = torch.bincount(drawn[:, 0], minlength=6)
    assert ((firsts - 100.0) ** 2 / 100).sum() < 20.5  # chi2 of 5 degrees, p < 0.001

"""Figures of signals and pictures equal their oracles, and ranks are 1 for who knows and a half for who guesses."""

import numpy as np
import pytest
from scipy import signal as dsp
from scipy import stats

from eegdecode.evaluation.metrics.nrmse import nrmse
from eegdecode.evaluation.metrics.si_sdr_db import si_sdr_db
from eegdecode.evaluation.statistics import correlation, ranking, ssim

SFREQ = 20.0


def pictures(n: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    one = rng.random((n, 20, 40))
    return one, 0.7 * one + 0.3 * rng.random((n, 20, 40))


def slow(rng: np.random.Generator, n: int, n_times: int = 400, n_features: int = 1) -> np.ndarray:
    noise = rng.normal(size=(n, n_times, n_features))
    return dsp.sosfiltfilt(dsp.butter(2, 3.0, fs=SFREQ, output="sos"), noise, axis=1)


def test_r_is_scipys() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(3, 50, 2)), rng.normal(size=(3, 50, 2))
    by_scipy = [[stats.pearsonr(one[i, :, f], other[i, :, f])[0] for f in range(2)] for i in range(3)]
    np.testing.assert_allclose(correlation.correlation(one, other), by_scipy)


def test_r_of_spectra_knows_no_time() -> None:
    one = slow(np.random.default_rng(0), 2)
    np.testing.assert_allclose(correlation.spectral(one, np.roll(one, 37, axis=1)), 1)


def test_unrelated_slow_signals_have_like_spectra() -> None:
    rng = np.random.default_rng(0)
    assert correlation.spectral(slow(rng, 100), slow(rng, 100)).mean() > 0.2


def test_the_mean_has_nrmse_1_and_the_truth_0() -> None:
    y = np.random.default_rng(0).normal(3.0, 2.0, size=(100, 2))
    np.testing.assert_allclose(nrmse(np.broadcast_to(y.mean(axis=0), y.shape), y), 1)
    np.testing.assert_array_equal(nrmse(y, y), 0)


def test_nrmse_refuses_a_target_that_never_changes() -> None:
    with pytest.raises(ValueError, match="over 3 rows it is constant"):
        nrmse(np.zeros(3), np.full(3, 0.1))


def test_si_sdr_is_torchmetrics() -> None:
    rng = np.random.default_rng(7)
    rng.random((4, 20, 40))
    x = rng.normal(size=(2, 300))
    y = x + rng.normal(size=x.shape) + 1
    np.testing.assert_allclose(si_sdr_db(y, x), [-0.49679931638518215, 1.1511559286393185], atol=1e-9)


def test_si_sdr_follows_from_r_and_knows_no_scale() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 5, 200))
    r2 = correlation.correlation(x.T, y.T) ** 2
    np.testing.assert_allclose(si_sdr_db(y, x), 10 * np.log10(r2 / (1 - r2)))
    np.testing.assert_allclose(si_sdr_db(-3 * y + 2, x), si_sdr_db(y, x))


@pytest.mark.parametrize("mode", ["skimage", "wang"])
def test_identical_pictures_have_ssim_1(mode: ssim.Mode) -> None:
    one, other = pictures()
    np.testing.assert_allclose(ssim.ssim(one, one, 1.0, mode), 1, atol=1e-12)
    assert np.all(ssim.ssim(one, other, 1.0, mode) < 0.95)


GOLDEN = {
    "skimage": [0.8843527814329795, 0.8871493712409843],
    "wang": [0.879593878378546, 0.8897516834502107],
}


@pytest.mark.parametrize("mode", ["skimage", "wang"])
def test_ssim_is_what_skimage_gave(mode: ssim.Mode) -> None:
    one, other = pictures()
    np.testing.assert_allclose(ssim.ssim(one, other, 1.0, mode), GOLDEN[mode], atol=1e-12)
    np.testing.assert_allclose(np.diagonal(ssim.ssim_of_all(one, other, 1.0, mode)), GOLDEN[mode], atol=1e-12)


@pytest.mark.parametrize("shape", [(11, 11), (20, 73), (130, 90)])
@pytest.mark.parametrize("mode", ["skimage", "wang"])
def test_ssim_is_that_of_the_skimage_here(mode: ssim.Mode, shape: tuple[int, int]) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    wang = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    rng = np.random.default_rng(0)
    ones, others = rng.random((3, *shape)) * 4, rng.random((2, *shape)) * 4
    oracle = [
        [
            metrics.structural_similarity(one, other, data_range=4.0, **(wang if mode == "wang" else {}))
            for other in others
        ]
        for one in ones
    ]
    np.testing.assert_allclose(ssim.ssim_of_all(ones, others, 4.0, mode), oracle, atol=1e-10)
    np.testing.assert_allclose(ssim.ssim(ones[:, None], others, 4.0, mode), oracle, atol=1e-10)


def test_chunks_of_pictures_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = pictures(7)
    whole = ssim.ssim_of_all(one, other, 1.0), ssim.ssim(one, other, 1.0)
    monkeypatch.setattr(ssim, "PAIRS_BYTES", 3 * 8 * 20 * 40)
    np.testing.assert_allclose(ssim.ssim_of_all(one, other, 1.0), whole[0], atol=1e-14)
    np.testing.assert_allclose(ssim.ssim(one, other, 1.0), whole[1], atol=1e-14)


def test_flat_pictures_have_an_ssim_and_no_pictures_have_none() -> None:
    np.testing.assert_allclose(ssim.ssim(np.zeros((8, 8)), np.zeros((8, 8)), 1.0), 1)
    assert ssim.ssim(np.zeros((0, 8, 8)), np.zeros((0, 8, 8)), 1.0).shape == (0,)


def test_what_ssim_cannot_do_is_said() -> None:
    with pytest.raises(ValueError, match="10 × 40 is smaller than a window of wang, 11 × 11.*mode skimage"):
        ssim.ssim(np.zeros((10, 40)), np.zeros((10, 40)), 1.0, "wang")
    with pytest.raises(ValueError, match="modes skimage and wang, but got 'matlab'"):
        ssim.ssim(np.zeros((10, 40)), np.zeros((10, 40)), 1.0, "matlab")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="above 0, got 0"):
        ssim.ssim(np.zeros((10, 40)), np.zeros((10, 40)), 0)
    with pytest.raises(ValueError, match=r"pictures of \(9, 9\) and of \(9, 8\)"):
        ssim.ssim_of_all(np.zeros((1, 9, 9)), np.zeros((1, 9, 8)), 1.0)


def test_ranks_count_ties_half() -> None:
    fit = np.array([[3.0, 1, 2, 0], [1, 1, 1, 1], [0, 2, 2, 1], [0, 1, 2, 3]])
    np.testing.assert_allclose(ranking.ranks(fit, np.array([0, 1, 2, 0])), [1, 0.5, 2.5 / 3, 0])
    of_all = ranking.ranks_of_all(fit)
    np.testing.assert_allclose(of_all[np.arange(4), [0, 1, 2, 0]], [1, 0.5, 2.5 / 3, 0])


def test_one_piece_has_no_rank() -> None:
    assert np.isnan(ranking.ranks(np.ones((3, 1)), np.zeros(3, int))).all()


def test_dalys_identity_decoder_is_perfect() -> None:
    pieces = slow(np.random.default_rng(0), 12, n_features=2)
    own = np.arange(24) % 12
    fits = ranking.daly(pieces[own], pieces, SFREQ)
    assert list(fits) == ["spectrum", "ssim"]
    for name, fit in fits.items():
        assert np.all(ranking.ranks(fit, own) == 1), name


def test_dalys_permuted_decoder_is_at_chance() -> None:
    rng = np.random.default_rng(1)
    pieces, own = slow(rng, 36), np.tile(np.arange(36), 10)
    outputs = pieces[own] + slow(rng, len(own))
    others = rng.permutation(own)
    for name, fit in ranking.daly(outputs, pieces, SFREQ).items():
        ranks = ranking.ranks(fit, others)
        assert ranks.mean() == pytest.approx(0.5, abs=3 * ranks.std() / np.sqrt(len(ranks))), name
        assert ranking.ranks(fit, own).mean() > 0.7, name


def test_a_decoder_that_says_nothing_is_at_chance() -> None:
    pieces, own = slow(np.random.default_rng(0), 6), np.arange(6)
    for name, fit in ranking.daly(np.ones_like(pieces), pieces, SFREQ).items():
        assert ranking.ranks(fit, own).mean() == pytest.approx(0.5), name


def test_the_band_needs_a_rate() -> None:
    with pytest.raises(ValueError, match="0.035 to 4.75 Hz needs values at more than 9.5 Hz, got 8 Hz"):
        ranking.prepared(np.zeros((1, 100, 1)), 8.0)


def test_the_band_is_kept_and_the_rest_is_not() -> None:
    time_s = np.arange(4000) / 100.0
    x = np.stack([np.sin(2 * np.pi * hz * time_s) for hz in (1.0, 20.0)], axis=1)
    spread = ranking.prepared(x, 100.0)[1000:3000].std(axis=0)
    assert spread[0] == pytest.approx(1, abs=0.02) and spread[1] < 0.01


def test_a_spectrogram_has_the_amplitude_where_the_tone_is() -> None:
    time_s = np.arange(800) / SFREQ
    tone = (3 * np.sin(2 * np.pi * 2.0 * time_s))[None, :, None]
    amplitudes = ranking.spectrograms(tone, SFREQ)
    assert amplitudes.shape == (1, 1, 19, 73)
    assert amplitudes[0, 0, :, 10].argmax() == 7  # 2 Hz, as the first is 0.25 Hz
    np.testing.assert_allclose(amplitudes[0, 0, 7], 3, atol=0.01)
    oracle = dsp.stft(tone[0, :, 0], SFREQ, "hann", 80, 70, boundary=None, padded=False, detrend=False)[2]
    np.testing.assert_allclose(amplitudes[0, 0], 2 * np.abs(oracle[1:20]), atol=1e-9)

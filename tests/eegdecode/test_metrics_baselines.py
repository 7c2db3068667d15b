"""Linear baselines find what is linear, find nothing where there is nothing, and are what their oracles are."""

from dataclasses import replace

import mne
import numpy as np
import pytest
from pyriemann.classification import MDM
from pyriemann.estimation import Covariances
from pyriemann.tangentspace import TangentSpace
from scipy import signal as dsp
from sklearn.cross_decomposition import CCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline

from eegdecode.evaluation.baselines import bandpower, riemann, steady_state, window_ridge
from eegdecode.evaluation.baselines.bandpower import BandPower
from eegdecode.evaluation.baselines.classes import PENALTIES, HeldOut, fitted, lda, logistic, loss
from eegdecode.evaluation.baselines.csp import CSP
from eegdecode.evaluation.baselines.evoked import Evoked, Xdawn
from eegdecode.evaluation.baselines.riemann import Riemann
from eegdecode.evaluation.baselines.steady_state import FBCCA, TRCA, FilterBank, frequencies
from eegdecode.evaluation.baselines.window_ridge import WindowRidge
from eegdecode.evaluation.metrics.balanced_accuracy import balanced_accuracy
from eegdecode.evaluation.statistics.confusion import confusion

SFREQ = 128.0


def imagined(n_classes: int, effect: float = 1.5, n: int = 120, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Windows [window, 256, 8] in which the rhythm of one source for each class is stronger, mixed, in average
    reference."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    sources = rng.normal(size=(n, 256, 8))
    sos = dsp.butter(4, (9, 13), "bandpass", fs=SFREQ, output="sos")
    rhythm = dsp.sosfiltfilt(sos, rng.normal(size=(n, 256, n_classes)), axis=1) * 3
    sources[:, :, :n_classes] += rhythm * (1 + effect * np.eye(n_classes)[y])[:, None]
    x = sources @ np.random.default_rng(99).normal(size=(8, 8))
    return x - x.mean(axis=2, keepdims=True), y


Decoder = CSP | BandPower | Riemann
DECODERS = [CSP, BandPower, Riemann]


def fit(decoder: type[Decoder], x: np.ndarray, y: np.ndarray, n_classes: int | None = None) -> Decoder:
    return Riemann.fit(x, y, n_classes) if decoder is Riemann else decoder.fit(x, y, SFREQ, n_classes)


def found(decoder: type[Decoder], n_classes: int, effect: float) -> float:
    """Balanced accuracy on windows that were not trained on."""
    x, y = imagined(n_classes, effect)
    fitted = fit(decoder, x, y)
    x, y = imagined(n_classes, effect, seed=1)
    return float(balanced_accuracy(confusion(y, fitted.log_probabilities(x).argmax(axis=1), n_classes)))


@pytest.mark.parametrize("decoder", [CSP, Riemann])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_imagined_movements_are_found_and_nothing_else(decoder: type[Decoder], n_classes: int) -> None:
    assert found(decoder, n_classes, 1.5) > 0.9
    assert found(decoder, n_classes, 0.0) == pytest.approx(1 / n_classes, abs=0.15)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_band_power_finds_rhythms_and_nothing_else(n_classes: int) -> None:
    assert found(BandPower, n_classes, 3.0) > 0.75
    assert found(BandPower, n_classes, 0.0) == pytest.approx(1 / n_classes, abs=0.15)


@pytest.mark.parametrize("decoder", DECODERS)
def test_log_probabilities_are_of_all_classes(decoder: type[Decoder]) -> None:
    x, y = imagined(2, n=40)
    log_p = fit(decoder, x, 2 * y, n_classes=4).log_probabilities(x)
    np.testing.assert_allclose(np.exp(log_p).sum(axis=1), 1)
    assert log_p.shape == (40, 4) and set(log_p.argmax(axis=1)) == {0, 2}


@pytest.mark.parametrize("decoder", DECODERS)
def test_one_class_is_refused(decoder: type[Decoder]) -> None:
    with pytest.raises(ValueError, match="training set, got 1"):
        fit(decoder, np.zeros((4, 256, 8)), np.zeros(4, int))


def rank_deficient(x: np.ndarray) -> np.ndarray:
    """As a store has it: in float32 and average reference, with an interpolated channel and a dead one."""
    x = np.concatenate([x[:, :, :-1], x[:, :, :1] * 0.3 + x[:, :, 1:2] * 0.7, np.zeros_like(x[:, :, :1])], axis=2)
    x = x.astype(np.float32)
    return x - x.mean(axis=2, keepdims=True)


@pytest.mark.parametrize(("n_classes", "order", "apart"), [(2, "alternate", 1e-8), (4, "mutual_info", 0.02)])
def test_csp_is_that_of_mne(n_classes: int, order: str, apart: float) -> None:
    """Of more than two classes, MNE's solver stops before it has converged, elsewhere from another start."""
    (x, y), (test, _) = imagined(n_classes, 0.3), imagined(n_classes, 0.3, seed=1)
    x, test = x[:, :, :7], test[:, :, :7]  # of full rank without the last
    ours = CSP.fit(x, y, SFREQ, band_hz=None).log_probabilities(test)
    filters = mne.decoding.CSP(6, reg="oas", cov_est="epoch", rank="full", component_order=order)
    oracle = make_pipeline(filters, LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"))
    x, test = ((part - part.mean(axis=1, keepdims=True)).swapaxes(1, 2) for part in (x, test))
    assert np.abs(np.exp(ours) - oracle.fit(x, y).predict_proba(test)).mean() < apart


def test_the_tangent_space_is_that_of_moabb() -> None:
    (x, y), (test, _) = imagined(4, 0.3), imagined(4, 0.3, seed=1)
    x, test = x[:, :, :7], test[:, :, :7]  # of full rank without the last
    oracle = make_pipeline(Covariances("oas"), TangentSpace(metric="riemann"), LogisticRegression(max_iter=1000))
    expected = oracle.fit(x.swapaxes(1, 2), y).predict_proba(test.swapaxes(1, 2))
    np.testing.assert_allclose(np.exp(Riemann.fit(x, y).log_probabilities(test)), expected, atol=5e-3)


@pytest.mark.parametrize("decoder", [CSP, Riemann])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_decoders_look_only_where_signals_are(
    decoder: type[CSP] | type[Riemann], n_classes: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not where float32 has left its rounding."""
    x, y = imagined(n_classes)
    fitted = fit(decoder, rank_deficient(x), y)
    assert isinstance(fitted, decoder) and fitted.space.shape == (7, 9)
    x, y = imagined(n_classes, seed=1)
    assert np.mean(fitted.log_probabilities(rank_deficient(x)).argmax(axis=1) == y) > 0.9
    assert capfd.readouterr() == ("", ""), "MNE is silent"


@pytest.mark.parametrize("decoder", [CSP, Riemann])
def test_a_window_in_which_nothing_was_recorded_does_no_harm(decoder: type[Decoder]) -> None:
    x, y = imagined(2)
    x[3:9] = 0
    fitted = fit(decoder, x, y)
    x, y = imagined(2, seed=1)
    x[0] = 0
    log_p = fitted.log_probabilities(x)
    assert np.isfinite(log_p).all() and np.mean(log_p.argmax(axis=1)[1:] == y[1:]) > 0.9


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_class_that_is_frequent_is_not_guessed(decoder: type[Decoder]) -> None:
    (x, y), (test, truth) = imagined(2, 0.1, n=240), imagined(2, 0.1, seed=1)
    few = (y == 0) | (np.arange(len(y)) % 8 == 1)
    predicted = fit(decoder, x[few], y[few]).log_probabilities(test).argmax(axis=1)
    assert np.mean(predicted == 1) > 0.3 and set(truth) == {0, 1}


@pytest.mark.parametrize("decoder", [CSP, Riemann])
def test_constant_signals_are_refused(decoder: type[Decoder]) -> None:
    with pytest.raises(ValueError, match="constant"):
        fit(decoder, np.zeros((8, 256, 3)), np.arange(8) % 2)


def test_of_many_channels_the_tangent_space_has_those_sources_that_are_strongest() -> None:
    x, y = imagined(2)
    many = (
        x @ np.random.default_rng(7).normal(size=(8, 100)) + np.random.default_rng(8).normal(size=(120, 256, 100)) / 10
    )
    fitted = Riemann.fit(many, y)
    assert fitted.space.shape == (riemann.MOST_SOURCES, 100)
    assert np.mean(fitted.log_probabilities(many).argmax(axis=1) == y) > 0.9


def test_csp_needs_its_band() -> None:
    with pytest.raises(ValueError, match="8 to 30 Hz must lie below 25 Hz"):
        CSP.fit(np.zeros((4, 100, 2)), np.array([0, 1, 0, 1]), 50.0)


def test_a_rhythm_is_in_its_band() -> None:
    time_s = np.arange(256) / SFREQ
    window = np.sin(2 * np.pi * np.array([2.0, 6, 10, 20, 40]) * time_s[:, None])[None]
    powers = bandpower.log_powers(window, SFREQ).reshape(5, 5)  # [band, channel]
    np.testing.assert_array_equal(powers.argmax(axis=0), np.arange(5))
    assert len(bandpower.BANDS_HZ) == 5


def test_bands_without_a_frequency_are_left_out_and_all_of_them_refused() -> None:
    assert bandpower.log_powers(np.ones((1, 16, 3)), SFREQ).shape == (1, 3 * 3)  # 8 Hz apart: alpha, beta, gamma
    with pytest.raises(ValueError, match="0.0156.* s at 128 Hz has no frequency of a band"):
        bandpower.log_powers(np.ones((1, 2, 3)), SFREQ)


def test_pooling_is_the_mean_of_stretches() -> None:
    x = np.arange(2 * 40 * 3, dtype=float).reshape(2, 40, 3)
    means = window_ridge.downsampled(x).reshape(2, 16, 3)
    np.testing.assert_allclose(means[:, 0], x[:, :2].mean(axis=1))
    np.testing.assert_allclose(means[:, -1], x[:, 37:].mean(axis=1))
    np.testing.assert_allclose(window_ridge.downsampled(x[:, :5]), x[:, :5].reshape(2, -1))


def test_the_pooled_ridge_is_sklearns_and_finds_what_is_linear() -> None:
    rng = np.random.default_rng(0)
    x, x_val, x_test = rng.normal(size=(3, 300, 16, 4))
    mapping = rng.normal(size=(64, 5))
    y, y_val, y_test = (
        part.reshape(300, -1) @ mapping + 3 * rng.normal(size=(300, 5)) + 7 for part in (x, x_val, x_test)
    )
    ridge = WindowRidge.fit(x, y, x_val, y_val)
    inputs = x.reshape(300, -1)
    size = np.square(inputs - inputs.mean(axis=0)).sum() / 64
    oracle = Ridge(ridge.penalty * size).fit(inputs, y)
    np.testing.assert_allclose(ridge.decode(x_test), oracle.predict(x_test.reshape(300, -1)), rtol=1e-6)
    assert np.mean((ridge.decode(x_test) - y_test) ** 2) < 0.5 * y_test.var()
    each = [Ridge(penalty * size).fit(inputs, y).predict(x_val.reshape(300, -1)) for penalty in window_ridge.PENALTIES]
    best = int(np.argmin([np.mean((predicted - y_val) ** 2) for predicted in each]))
    assert ridge.penalty == window_ridge.PENALTIES[best] and 0 < best < len(each) - 1


def test_the_validation_part_tells_the_ridge_that_there_is_nothing() -> None:
    rng = np.random.default_rng(0)
    x, x_val = rng.normal(size=(2, 60, 16, 4))
    y, y_val = rng.normal(size=(2, 60, 3))
    ridge = WindowRidge.fit(x, y, x_val, y_val)
    assert ridge.penalty >= 10
    assert np.ptp(WindowRidge.fit(np.zeros_like(x), y, x_val, y_val).decode(x_val), axis=0).max() == 0


def flickering(effect: float, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows [window, 256, 6] in which a light of 13, 17 or 21 Hz is seen: all within what is called beta."""
    rng, y = np.random.default_rng(seed), np.arange(n) % 3
    waves = np.sin(2 * np.pi * np.outer([13, 17, 21], np.arange(256)) / SFREQ + 0.3)
    mixing = np.random.default_rng(99).normal(size=6)
    return rng.normal(size=(n, 256, 6)) + effect * waves[y][:, :, None] * mixing, y


@pytest.mark.parametrize("decoder", [FBCCA, TRCA, FilterBank])
def test_steady_state_responses_are_found_and_nothing_else(decoder: type[FBCCA | TRCA | FilterBank]) -> None:
    hz = frequencies(("13", "17 Hz", "flicker_21"))
    assert hz == (13, 17, 21)
    for effect, least, most in ((0.5, 0.9, 1.0), (0.0, 0.1, 0.6)):
        fitted = decoder.fit(*flickering(effect, 45, 0), SFREQ, hz)
        x, y = flickering(effect, 60, 1)
        log_p = fitted.log_probabilities(x)
        assert least <= np.mean(log_p.argmax(axis=1) == y) <= most
        np.testing.assert_allclose(np.exp(log_p).sum(axis=1), 1)
    x, y = flickering(0.5, 60, 1)
    assert np.mean(fit(BandPower, *flickering(0.5, 45, 0)).log_probabilities(x).argmax(axis=1) == y) < 0.7


def test_names_of_classes_are_frequencies_if_all_that_are_numbers_may_be() -> None:
    assert frequencies(("13.0", "17.0", "rest")) == (13, 17, None)
    for none in (("left", "right"), ("1", "2", "3"), ("13", "13 Hz"), ("13", "rest")):
        assert frequencies(none) == ()


def test_canonical_correlations_are_those_of_sklearn() -> None:
    """In one band alone, as scikit-learn has no bank of filters."""
    x, _ = flickering(0.5, 3, 0)
    (_, banded), *_ = steady_state._in_bands(x, SFREQ, [13.0])
    times = np.arange(256) / SFREQ
    angles = 2 * np.pi * 13 * np.outer(times, np.arange(1, 5))  # below 64 Hz
    waves = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    one_band = [(1.0, banded)]
    ours = steady_state.canonical(x, SFREQ, [13.0], one_band)[:, 0]
    for row, own in enumerate(banded):
        u, v = CCA(1, max_iter=5000, tol=1e-12).fit_transform(own, waves)
        assert ours[row] == pytest.approx(np.corrcoef(u[:, 0], v[:, 0])[0, 1] ** 2, rel=1e-3)


def evoked(effect: float, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows [window, 100, 8] of which each fourth has a response in its middle."""
    rng, y = np.random.default_rng(seed), (np.arange(n) % 4 == 0).astype(int)
    course = np.exp(-(((np.linspace(0, 1, 100) - 0.35) / 0.08) ** 2))
    mixing = np.random.default_rng(99).normal(size=8)
    return rng.normal(size=(n, 100, 8)) + effect * y[:, None, None] * course[:, None] * mixing, y


@pytest.mark.parametrize("decoder", [Evoked, Xdawn])
def test_evoked_responses_are_found_and_nothing_else(decoder: type[Evoked | Xdawn]) -> None:
    for effect, least, most in ((0.8, 0.9, 1.0), (0.0, 0.3, 0.7)):
        fitted = decoder.fit(*evoked(effect, 120, 0))
        x, y = evoked(effect, 200, 1)
        answers = fitted.log_probabilities(x).argmax(axis=1)
        assert least <= balanced_accuracy(confusion(y, answers, 2)) <= most


def test_xdawn_is_for_few_classes() -> None:
    with pytest.raises(ValueError, match="filters for each of 16 classes at most, got 20"):
        Xdawn.fit(np.random.default_rng(0).normal(size=(40, 50, 4)), np.arange(40) % 20)


def test_the_nearest_mean_is_that_of_pyriemann() -> None:
    x, y = imagined(4)
    others, _ = imagined(4, seed=1)
    oracle = make_pipeline(Covariances("oas"), MDM("riemann"))
    spanned = np.linalg.svd(np.concatenate(x), full_matrices=False)[2][:7]  # the average reference took one away
    oracle.fit(spanned @ x.swapaxes(1, 2), y)
    ours = Riemann.nearest_mean(x, y).log_probabilities(others)
    assert np.mean(ours.argmax(axis=1) == oracle.predict(spanned @ others.swapaxes(1, 2))) > 0.98


def test_a_penalty_is_chosen_on_the_validation_set_within_its_budget() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 200)), np.arange(40) % 2
    x[:, 0] += y  # of so many features only one tells, so a strong penalty is better
    held_out = HeldOut(rng.normal(size=(200, 200)), np.arange(200) % 2, 5)
    held_out.x[:, 0] += held_out.y
    chosen = fitted(logistic(), x, y, held_out, lambda other: other)
    assert chosen.C < 1
    assert fitted(logistic(), x, y, replace(held_out, n_settings=1), lambda other: other).C == 1.0
    assert fitted(logistic(), x, y, None, lambda other: other).C == 1.0
    losses = [loss(each.fit(x, y).predict_log_proba(held_out.x), each.classes_, held_out.y) for each in logistic()]
    assert PENALTIES[int(np.argmin(losses))] == chosen.C


@pytest.mark.parametrize("n", [1, 5, 12])
def test_as_many_settings_are_tried_as_the_network_had(n: int) -> None:
    held_out = HeldOut(np.zeros((8, 1)), np.arange(8) % 2, n)
    penalties, shrinkages = [each.C for each in logistic(held_out)], [each.shrinkage for each in lda(2, held_out)]
    assert len(set(penalties)) == len(set(shrinkages)) == max(n, 5) and penalties[:5] == list(PENALTIES)
    assert all(1e-5 <= each <= 1e4 for each in penalties) and all(0 < each < 1 for each in shrinkages[1:])

"""The steps of preprocessing, each Signal -> Signal: zero phase, zero shift in time, float32 out."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import reduce

import numpy as np
from scipy import signal as dsp

from eegdecode.preprocessing import Bandpass, Notch, Reference, Resample, Scale, Step
from eegdecode.signals import Signal

NOTCH_QUALITY = 30  # centre over width: 50 Hz loses 1.7 Hz
BANDPASS_ORDER = 3  # runs forth and back, so 6 in effect: 36 dB an octave


def apply(steps: Sequence[Step], signal: Signal) -> Signal:
    """All steps, in order."""
    return reduce(lambda before, step: _apply(step, before), steps, signal)


def _apply(step: Step, signal: Signal) -> Signal:
    match step:
        case Reference():
            return _with(signal, signal.data - signal.data.mean(axis=1, keepdims=True))
        case Notch():
            return notch(step, signal)
        case Bandpass():
            return bandpass(step, signal)
        case Resample():
            return resample(step, signal)
        case Scale():
            return scale(step, signal)


def notch(step: Notch, signal: Signal) -> Signal:
    _below_nyquist(step.hz, signal, f"notch at {step.hz:g} Hz")
    data = signal.data
    for hz in np.arange(step.hz, signal.sfreq / 2, step.hz):
        data = dsp.sosfiltfilt(dsp.tf2sos(*dsp.iirnotch(hz, NOTCH_QUALITY, signal.sfreq)), data, axis=0)
    return _with(signal, data)


def bandpass(step: Bandpass, signal: Signal) -> Signal:
    _below_nyquist(step.high_hz, signal, f"bandpass up to {step.high_hz:g} Hz")
    sos = dsp.butter(BANDPASS_ORDER, (step.low_hz, step.high_hz), "bandpass", fs=signal.sfreq, output="sos")
    # The start and the end are mirrored for longer than the slow edge rings, or drifts leave a swing there
    padding = min(signal.n_times - 1, int(3 * signal.sfreq / step.low_hz))
    return _with(signal, dsp.sosfiltfilt(sos, signal.data, axis=0, padlen=padding))


def resample(step: Resample, signal: Signal) -> Signal:
    ratio = Fraction(step.sfreq / signal.sfreq).limit_denominator(1000)
    drift_s = abs(float(ratio) * signal.sfreq / step.sfreq - 1) * signal.duration
    if drift_s > 0.1 / step.sfreq:
        raise ValueError(
            f"resample from {signal.sfreq} to {step.sfreq} Hz would drift by {1000 * drift_s:.1f} ms to the end: "
            "choose a rate that is a simple fraction of the recording's"
        )
    # padtype: the signal need not end at zero. The filter has an odd length and is centred, so nothing is shifted
    data = dsp.resample_poly(signal.data, ratio.numerator, ratio.denominator, axis=0, padtype="line")
    return replace(_with(signal, data), sfreq=step.sfreq)


def scale(step: Scale, signal: Signal) -> Signal:
    low, middle, high = np.quantile(signal.data, (0.25, 0.5, 0.75), axis=0)
    spread = (high - low) / 1.349  # the standard deviation, were it normal
    flat = spread == 0  # a dead channel stays at zero
    data = np.where(flat, 0.0, (signal.data - middle) / np.where(flat, 1.0, spread))
    return _with(signal, data.clip(-step.clamp, step.clamp))


def _with(signal: Signal, data: np.ndarray) -> Signal:
    return replace(signal, data=np.ascontiguousarray(data, dtype=np.float32))


def _below_nyquist(hz: float, signal: Signal, what: str) -> None:
    if hz >= signal.sfreq / 2:
        raise ValueError(
            f"{what} needs more than {2 * hz:g} Hz, but the signal comes at {signal.sfreq:g} Hz: "
            "put it before resample, or choose a lower frequency"
        )

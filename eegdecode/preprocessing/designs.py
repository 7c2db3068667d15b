"""Zero-phase filters as real transfer functions, equal to mne's `filter_data` and `notch_filter`, method "fir".

The window method needs 3.3 / width samples for a transition of that width (Hamming). A filter is the sum of one
low-pass for each edge, each as short as its transition allows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import signal as dsp

from eegdecode.preprocessing.config import Bandpass, Notch

HAMMING = 3.3  # length × width of the transition
NOTCH_WIDTH = 1 / 200  # of the frequency
NOTCH_EDGE_HZ = 0.5
NOTCH_QUALITY = 30  # of the IIR, centre over width: 50 Hz loses 1.7 Hz
BANDPASS_ORDER = 3  # of the IIR, run forward and backward, so 6 in effect: 36 dB an octave
FORGOTTEN = 1e-10  # of the first peak; below that, the ringing of an IIR does not count


@dataclass(frozen=True)
class Filter:
    """`reach`: samples to either side that an output depends on. `response(n)`: gain at the rfft bins of n samples."""

    reach: int
    response: Callable[[int], np.ndarray]


def design(step: Notch | Bandpass, sfreq: float) -> Filter:
    match step:
        case Notch(method="fir"):
            return _fir(_notch_edges(mains(step.hz, sfreq), sfreq), sfreq)
        case Notch():
            centres = mains(step.hz, sfreq)
            return _iir(np.concatenate([dsp.tf2sos(*dsp.iirnotch(hz, NOTCH_QUALITY, sfreq)) for hz in centres]), sfreq)
        case Bandpass(method="fir"):
            return _fir(_bandpass_edges(step, sfreq), sfreq)
        case Bandpass():
            kind, edges = _butter(step.low_hz, step.high_hz)
            return _iir(dsp.butter(BANDPASS_ORDER, edges, kind, fs=sfreq, output="sos"), sfreq)


def mains(hz: float, sfreq: float) -> np.ndarray:
    """The mains frequency and its harmonics that fit below half the rate."""
    _below_nyquist(hz, sfreq, f"notch at {hz:g} Hz")
    centres = np.arange(hz, sfreq / 2, hz)
    return centres[(centres == hz) | (centres * (1 + NOTCH_WIDTH / 2) + NOTCH_EDGE_HZ < sfreq / 2)]


Edge = tuple[float, float, int]
"""A transition from one frequency to another, and the change of gain."""


def _notch_edges(centres: Sequence[float] | np.ndarray, sfreq: float) -> list[Edge]:
    edges: list[Edge] = []
    for hz in centres:
        low, high = hz * (1 - NOTCH_WIDTH / 2), hz * (1 + NOTCH_WIDTH / 2)
        edges += [(low - NOTCH_EDGE_HZ, low, -1), (high, min(high + NOTCH_EDGE_HZ, sfreq / 2), 1)]
    return edges


def _bandpass_edges(step: Bandpass, sfreq: float) -> list[Edge]:
    edges: list[Edge] = []
    if step.low_hz is not None:
        edges.append((step.low_hz - min(max(0.25 * step.low_hz, 2.0), step.low_hz), step.low_hz, 1))
        _below_nyquist(step.low_hz, sfreq, f"bandpass from {step.low_hz:g} Hz")
    if step.high_hz is not None:
        _below_nyquist(step.high_hz, sfreq, f"bandpass up to {step.high_hz:g} Hz")
        edges.append((step.high_hz, step.high_hz + min(max(0.25 * step.high_hz, 2.0), sfreq / 2 - step.high_hz), -1))
    return edges


def kernel(edges: Sequence[Edge], sfreq: float) -> np.ndarray:
    """The taps, odd in number and centred. The gain at half the rate is 1 where the last edge rises, else 0."""
    lengths = [_odd(HAMMING * sfreq / (high - low)) for low, high, _ in edges]
    total = np.zeros(max(lengths))
    total[len(total) // 2] = edges[-1][2] == 1
    for length, (low, high, change) in zip(lengths, edges, strict=True):
        outside = (len(total) - length) // 2
        lowpass = dsp.firwin(length, (low + high) / 2, window="hamming", fs=sfreq)
        total[outside : outside + length] -= change * lowpass
    return total


def _fir(edges: Sequence[Edge], sfreq: float) -> Filter:
    taps = kernel(edges, sfreq)
    reach = len(taps) // 2

    def response(n: int) -> np.ndarray:
        centred = np.zeros(n)
        centred[: reach + 1], centred[n - reach :] = taps[reach:], taps[:reach]
        return np.fft.rfft(centred).real

    return Filter(reach, response)


def _iir(sos: np.ndarray, sfreq: float) -> Filter:
    slowest = max(np.abs(np.roots(section[3:])).max() for section in sos)
    reach = int(np.ceil(1.3 * np.log(FORGOTTEN) / np.log(slowest)))  # 1.3: neighbouring poles decay a little later
    return Filter(reach, lambda n: np.abs(dsp.sosfreqz(sos, np.fft.rfftfreq(n, 1 / sfreq), fs=sfreq)[1]) ** 2)


def _butter(low_hz: float | None, high_hz: float | None) -> tuple[str, object]:
    if low_hz is None or high_hz is None:
        return ("lowpass", high_hz) if low_hz is None else ("highpass", low_hz)
    return "bandpass", (low_hz, high_hz)


def _odd(length: float) -> int:
    whole = round(length)
    return whole + 1 - whole % 2


def _below_nyquist(hz: float, sfreq: float, what: str) -> None:
    if hz >= sfreq / 2:
        raise ValueError(
            f"{what} needs more than {2 * hz:g} Hz, but the signal has {sfreq:g} Hz: "
            "put it before resample, or choose a lower frequency"
        )

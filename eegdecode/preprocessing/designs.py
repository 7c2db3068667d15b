"""Zero-phase filters as real transfer functions, equal to mne's `filter_data` and `notch_filter`, method "fir".

The window method needs 3.3 / width samples for a transition of that width (Hamming). A filter is the sum of one
low-pass for each edge, each as short as its transition allows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import signal as dsp

HAMMING = 3.3  # length × width of the transition
FORGOTTEN = 1e-10  # of the first peak; below that, the ringing of an IIR does not count


@dataclass(frozen=True)
class Filter:
    """`reach`: samples to either side that an output depends on. `response(n)`: gain at the rfft bins of n samples."""

    reach: int
    response: Callable[[int], np.ndarray]


@dataclass(frozen=True)
class Resampling:
    """To a new rate in Hz; the filters before it run in the same pass, those after it in another."""

    sfreq: float


Edge = tuple[float, float, int]
"""A transition from one frequency to another, and the change of gain."""


def fir(edges: Sequence[Edge], sfreq: float) -> Filter:
    taps = kernel(edges, sfreq)
    reach = len(taps) // 2

    def response(n: int) -> np.ndarray:
        centred = np.zeros(n)
        centred[: reach + 1], centred[n - reach :] = taps[reach:], taps[:reach]
        return np.fft.rfft(centred).real

    return Filter(reach, response)


def iir(sos: np.ndarray, sfreq: float) -> Filter:
    slowest = max(np.abs(np.roots(section[3:])).max() for section in sos)
    reach = int(np.ceil(1.3 * np.log(FORGOTTEN) / np.log(slowest)))  # 1.3: neighbouring poles decay a little later
    return Filter(reach, lambda n: np.abs(dsp.sosfreqz(sos, np.fft.rfftfreq(n, 1 / sfreq), fs=sfreq)[1]) ** 2)


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


def _odd(length: float) -> int:
    whole = round(length)
    return whole + 1 - whole % 2


def need_below_nyquist(hz: float, sfreq: float, what: str) -> None:
    if hz >= sfreq / 2:
        raise ValueError(
            f"{what} needs more than {2 * hz:g} Hz, but the signal has {sfreq:g} Hz: "
            "put it before resample, or choose a lower frequency"
        )

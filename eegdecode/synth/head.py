"""The forward model of synthetic studies: positions of sensors, fields of dipoles, and noise.

Values are in µV for EEG; for MEG the same value stands for 25 fT, about the ratio in a real head.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import signal as dsp

from eegdecode.signals import Kind, Sensor

HEAD_M, HELMET_M = 0.09, 0.12  # radius of the scalp and of the helmet's sensors
UNIT_V, UNIT_T = 1e-6, 25e-15

# Spherical positions of the 10-20 system in degrees (inclination from Cz, azimuth), in the order channels are taken
PLACES = {
    "Fp1": (-90, -72), "Fp2": (90, 72), "F3": (-60, -51), "Fz": (45, 90), "F4": (60, 51), "C3": (-45, 0),
    "Cz": (0, 0), "C4": (45, 0), "T7": (-90, 0), "T8": (90, 0), "P3": (-60, 51), "Pz": (45, -90), "P4": (60, -51),
    "F7": (-90, -36), "F8": (90, 36), "Oz": (90, -90), "O1": (-90, 72), "O2": (90, -72), "P7": (-90, 36),
    "P8": (90, -36),
}  # fmt: skip

# The positions between them: on the midline, and on the left; the right mirrors the left
_MIDLINE = {"Fpz": (90, 90), "AFz": (68, 90), "FCz": (23, 90), "CPz": (23, -90), "POz": (68, -90), "Iz": (113, -90)}
_LEFT = {
    "AF7": (-90, -54), "AF3": (-74, -65), "F1": (-50, -68), "F5": (-75, -41), "FT9": (-113, -18), "FT7": (-90, -18),
    "FC5": (-70, -21), "FC3": (-50, -28), "FC1": (-32, -45), "C1": (-23, 0), "C5": (-68, 0), "TP9": (-113, 18),
    "TP7": (-90, 18), "CP5": (-70, 21), "CP3": (-50, 28), "CP1": (-32, 45), "P1": (-50, 68), "P5": (-75, 41),
    "PO7": (-90, 54), "PO3": (-74, 65),
}  # fmt: skip
_RIGHT = {f"{name[:-1]}{int(name[-1]) + 1}": (-down, -around) for name, (down, around) in _LEFT.items()}
ALL_PLACES = PLACES | _MIDLINE | _LEFT | _RIGHT


@dataclass(frozen=True)
class Cap:
    """Sensors around a head of radius 1: electrodes on it, or magnetometers a third further out."""

    names: tuple[str, ...]
    places: np.ndarray  # [channel, xyz]: x to the right, y to the front, z up
    magnetic: bool = False

    @property
    def unit(self) -> float:
        """The value 1 in volt or tesla."""
        return UNIT_T if self.magnetic else UNIT_V

    def sensors(self) -> dict[str, Sensor]:
        kind: Kind = "mag" if self.magnetic else "eeg"
        metres = np.round(self.places * HEAD_M, 5).tolist()
        return {name: Sensor(kind, (x, y, z)) for name, (x, y, z) in zip(self.names, metres)}

    def dipole(self, place: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """Compute a current dipole at each sensor: its potential in an infinite conductor, or its radial field."""
        away = self.places - place
        far = np.linalg.norm(away, axis=1)
        if not self.magnetic:
            return away @ direction / far**3
        # The radial field outside of a sphere is that of the dipole alone: volume currents do not contribute
        outward = self.places / np.linalg.norm(self.places, axis=1, keepdims=True)
        return (np.cross(direction, away) * outward).sum(axis=1) / far**3

    def pattern(self, place: ArrayLike, direction: ArrayLike) -> np.ndarray:
        """Return the dipole's pattern, scaled to 1 at the strongest sensor."""
        field = self.dipole(np.array(place), np.array(direction))
        return field / np.abs(field).max()

    def patterns(self, rng: np.random.Generator, n_sources: int, centre: Sequence[float]) -> np.ndarray:
        """Return [source, channel] of random dipoles around a place of the cortex: a different mixing in each head."""
        strewn = [(rng.normal(centre, 0.12), rng.normal(size=3)) for _ in range(n_sources)]
        return np.stack([self.pattern(place, direction) for place, direction in strewn])


def cap(names: Sequence[str]) -> Cap:
    """Place electrodes by their names in the 10-10 system."""
    down, around = np.radians([ALL_PLACES[name] for name in names]).T
    places = np.stack([np.sin(down) * np.cos(around), np.sin(down) * np.sin(around), np.cos(down)], axis=1)
    return Cap(tuple(names), places)


def net(n_channels: int) -> Cap:
    """Place a geodesic net, as of 129 electrodes: E1, E2 … from the rim upwards, and Cz on top."""
    return Cap((*(f"E{number}" for number in range(1, n_channels)), "Cz"), _spiral(n_channels, lowest=-0.4))


def helmet(n_channels: int) -> Cap:
    """Place magnetometers over the head, MEG 001, MEG 002 …, each at right angles to the head's surface."""
    names = tuple(f"MEG {number:03d}" for number in range(1, n_channels + 1))
    return Cap(names, HELMET_M / HEAD_M * _spiral(n_channels, lowest=-0.2), magnetic=True)


def _spiral(n: int, lowest: float) -> np.ndarray:
    """Spread positions evenly over a sphere from height `lowest` to the top, by the golden angle."""
    up = np.linspace(lowest, 1, n)
    around = np.arange(n) * np.pi * (3 - np.sqrt(5))
    wide = np.sqrt(1 - up**2)
    return np.stack([wide * np.cos(around), wide * np.sin(around), up], axis=1)


def draws(seed: int, *what: int) -> np.random.Generator:
    """Return a random generator that depends on its purpose, not on earlier draws."""
    return np.random.default_rng(np.random.SeedSequence([seed, *what]))


def background(
    cap: Cap, head: np.random.Generator, rng: np.random.Generator, n_times: int, sfreq: float, line_hz: float = 50.0
) -> np.ndarray:
    """Return the noise, [time, channel]. `head` draws the places of this subject's sources, `rng` their activity."""
    time = np.arange(n_times) / sfreq
    noise = ongoing(head, rng, cap, time, sfreq)
    if not cap.magnetic:
        noise += 350 * np.outer(blinks(rng, time, sfreq), from_eyes(cap))
        noise += 4 * coloured(rng, n_times, sfreq, exponent=1.0)[:, None]  # noise of the reference
    return noise + amplifier(rng, time, len(cap.names), sfreq, line_hz)


def ongoing(
    head: np.random.Generator, rng: np.random.Generator, cap: Cap, time: np.ndarray, sfreq: float
) -> np.ndarray:
    """Return brain activity unrelated to the task: many 1/f sources, and occipital alpha bursts."""
    places = head.normal(size=(40, 3))
    places *= head.uniform(0.3, 0.8, (40, 1)) / np.linalg.norm(places, axis=1, keepdims=True)
    mixing = np.stack([cap.dipole(place, head.normal(size=3)) for place in places])
    sources = np.stack([coloured(rng, len(time), sfreq, exponent=1.0) for _ in places])
    background = sources.T @ mixing
    alpha = coloured(rng, len(time), sfreq, exponent=0.0, band_hz=(9, 11.5))
    waxing = np.maximum(coloured(rng, len(time), sfreq, exponent=0.0, band_hz=(0.05, 0.4)), 0) ** 1.5
    return 8 * background / background.std() + 8 * np.outer(alpha * waxing, cap.pattern((0, -0.6, 0.1), (0, -0.9, 0.4)))


def blinks(rng: np.random.Generator, time: np.ndarray, sfreq: float) -> np.ndarray:
    """Return the time course of blinks: about 15 a minute, 0.3 s each, of height 1."""
    onsets = rng.uniform(0, time[-1], rng.poisson(time[-1] / 4))
    single = dsp.windows.hann(int(0.3 * sfreq))
    train = np.zeros(len(time))
    np.add.at(train, (onsets * sfreq).astype(int), rng.uniform(0.6, 1.2, len(onsets)))
    return dsp.fftconvolve(train, single)[: len(time)]


def from_eyes(cap: Cap) -> np.ndarray:
    """Return the share of a blink at each electrode."""
    return np.exp(-np.linalg.norm(cap.places - (0, 0.95, -0.3), axis=1) / 0.35)


def muscle(rng: np.random.Generator, cap: Cap, time: np.ndarray, sfreq: float) -> np.ndarray:
    """Return muscle artefacts: now and then up to 1.5 s of noise above 20 Hz, over one temple."""
    bursts = np.zeros((len(time), len(cap.names)))
    for onset in rng.uniform(0, time[-1] - 1.5, rng.poisson(time[-1] / 12)):
        n = int(rng.uniform(0.3, 1.5) * sfreq)
        noise = coloured(rng, n, sfreq, exponent=0.0, band_hz=(20, 0.45 * sfreq)) * dsp.windows.hann(n)
        near = np.exp(-np.linalg.norm(cap.places - (rng.choice([-1, 1]), 0.1, -0.1), axis=1) / 0.4)
        bursts[int(onset * sfreq) :][:n] += rng.uniform(15, 45) * np.outer(noise, near)
    return bursts


def amplifier(rng: np.random.Generator, time: np.ndarray, n_channels: int, sfreq: float, line_hz: float) -> np.ndarray:
    """Return the noise of electrodes and cables: drift, mains with a harmonic, white noise."""
    noise = rng.normal(0, 0.5, (len(time), n_channels))
    for channel in noise.T:
        channel += 25 * coloured(rng, len(time), sfreq, exponent=3.0, band_hz=(0.0, 0.2))
    for hz, height_uv in ((line_hz, 6.0), (2 * line_hz, 1.5)):
        if hz < sfreq / 2:  # above that, the amplifier's own filter removes it
            phase = 2 * np.pi * (hz * time + rng.random())
            noise += height_uv * np.outer(np.sin(phase), rng.uniform(0.2, 1, n_channels))
    return noise


def coloured(
    rng: np.random.Generator, n: int, sfreq: float, exponent: float, band_hz: tuple[float, float] = (0.3, np.inf)
) -> np.ndarray:
    """Return noise of RMS 1 whose power falls as 1 / f^exponent within a band."""
    size = 1 << (n - 1).bit_length()  # a power of two, then cut: fast, and not periodic
    hz = np.fft.rfftfreq(size, 1 / sfreq)
    inside = (hz > 0) & (hz >= band_hz[0]) & (hz <= band_hz[1])
    spectrum = np.zeros(len(hz), complex)
    random = rng.normal(size=(2, inside.sum()))
    spectrum[inside] = (random[0] + 1j * random[1]) * hz[inside] ** (-exponent / 2)
    noise: np.ndarray = np.fft.irfft(spectrum, size)[:n]
    return noise / noise.std() if inside.any() else noise  # too short for such slow noise


def bump(lag_s: np.ndarray, width_s: float) -> np.ndarray:
    """Return a response that peaks at 0."""
    return np.exp(-((lag_s / width_s) ** 2) / 2)

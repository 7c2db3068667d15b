"""Weights over the channels: of mne's inverses for each source, and of a region's course from those of its sources."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mne
import numpy as np
from mne.beamformer import apply_lcmv_raw, make_lcmv
from mne.minimum_norm import apply_inverse_raw, make_inverse_operator

from eegdecode.preprocessing.localisation.head import Head


@dataclass(frozen=True)
class Region:
    """The sources of a region: the weights of each, [source, direction, channel], and its sign in a mean."""

    solution: np.ndarray
    signs: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """[source and direction, channel]."""
        return self.solution.reshape(-1, self.solution.shape[-1])

    @property
    def flip(self) -> np.ndarray:
        """[source and direction]."""
        return self.signs.repeat(self.solution.shape[1])


@dataclass(frozen=True)
class Course:
    """A region's course: its weights over the channels, and its share of the power of the region's sources."""

    weights: np.ndarray
    share: float | None = None


def solution(head: Head, method: str, snr: float, covariance: np.ndarray, noise: Path | None = None) -> np.ndarray:
    """[source, direction, channel]: along the normal of a surface, in three directions, or for LCMV along that of most
    power. mne's response to each channel alone."""
    n = len(head.info["ch_names"])
    unit = mne.io.RawArray(np.eye(n), head.info.copy(), verbose="error")
    if "eeg" in unit:
        unit.set_eeg_reference(projection=True, verbose="error")
    noise_covariance = _noise(unit.info, noise)
    if method == "LCMV":
        return _lcmv(head, unit, covariance, noise_covariance)
    inverse = make_inverse_operator(unit.info, head.forward, noise_covariance, loose="auto", verbose="error")
    direction = "normal" if head.is_surface else "vector"
    estimate = apply_inverse_raw(unit, inverse, 1 / snr**2, method, pick_ori=direction, verbose="error")
    return np.asarray(estimate.data).reshape(len(head.positions), -1, n)


def _noise(info: mne.Info, file: Path | None) -> mne.Covariance:
    if file is None:
        return mne.make_ad_hoc_cov(info, verbose="error")
    covariance = mne.read_cov(file, verbose="error")
    if lacking := [name for name in info["ch_names"] if name not in covariance["names"]]:
        raise ValueError(f"{file.name} is a noise covariance without {', '.join(lacking[:5])}: compute it of these too")
    return covariance.copy().pick_channels(info["ch_names"], ordered=True)


def _lcmv(head: Head, unit: mne.io.BaseRaw, covariance: np.ndarray, noise: mne.Covariance) -> np.ndarray:
    """The unit-noise-gain beamformer, with mne's regularisation of 5 % of the mean power."""
    unit.apply_proj(verbose="error")
    reference = unit.get_data()
    projected = reference @ covariance @ reference.T
    data = mne.Covariance(projected, unit.info["ch_names"], [], list(unit.info["projs"]), 1)
    rank = mne.compute_rank(data, info=unit.info, verbose="error")
    forward = (
        mne.convert_forward_solution(head.forward, surf_ori=True, verbose="error") if head.is_surface else head.forward
    )
    filters = make_lcmv(
        unit.info, forward, data, reg=0.05, noise_cov=noise, pick_ori="max-power", rank=rank, verbose="error"
    )
    estimate = apply_lcmv_raw(unit, filters, verbose="error")
    return np.asarray(estimate.data)[:, None]


def course(region: Region, covariance: np.ndarray, how: str) -> Course:
    """The first component of the courses of the sources, as mne's pca_flip: scaled to their RMS, its sign that of most
    of them. Or their mean, those that look the other way turned, as mne's mean_flip."""
    rows = region.rows
    if how == "mean_flip":
        return Course(region.flip @ rows / len(rows))
    power, axes = np.linalg.eigh(covariance)
    root = axes * np.sqrt(np.maximum(power, 0.0))
    left, strength, _ = np.linalg.svd(rows @ root, full_matrices=False)
    if not strength[0] > 0:
        return Course(np.zeros(rows.shape[1]), 0.0)
    sign = np.sign(left[:, 0] @ region.flip) or 1.0
    scale = np.linalg.norm(strength) / np.sqrt(len(rows))
    return Course(sign * scale / strength[0] * (left[:, 0] @ rows), float(strength[0] ** 2 / (strength**2).sum()))


def flips(head: Head, rows: np.ndarray) -> np.ndarray:
    """1 or -1 of each source, as mne.label_sign_flip; 1 where there is no surface."""
    if not head.is_surface:
        return np.ones(len(rows))
    normals = head.normals[rows]
    along = normals @ np.linalg.svd(normals, full_matrices=False)[2][0]
    return np.asarray(np.sign(along if along.mean() >= 0 else -along))


def of_components(region: Region, mixing: np.ndarray, how: str) -> np.ndarray:
    """The course of each component alone, back-projected to the channels by `mixing`: of a component of variance 1, its
    RMS over the sources, or their mean."""
    back = region.rows @ mixing
    if how == "mean_flip":
        return np.asarray(region.flip @ back / len(back))
    sign = np.where(region.flip @ back < 0, -1.0, 1.0)
    return np.asarray(sign * np.sqrt((back**2).mean(axis=0)))


def shares(courses: Sequence[Course]) -> str:
    """How much of a region's power its course has, where that is known."""
    some = [100 * course.share for course in courses if course.share is not None]
    return f", {min(some):.0f} to {max(some):.0f} % of its power" if some else ""

"""Source estimates of EEG and MEG: courses of cortical regions and of places in the MNI, by mne.

Every solution is linear: a region is a row of weights over the channels, so the stream is still read in blocks. Where
the weights depend on the data, these are the second moments of its channels over the trials.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from eegdecode.preprocessing import statistics
from eegdecode.preprocessing.channels import mapped
from eegdecode.preprocessing.localisation import files as head_files
from eegdecode.preprocessing.localisation import head, inverse
from eegdecode.preprocessing.localisation import regions as cortex
from eegdecode.preprocessing.steps import ica
from eegdecode.signals import Decisions, Sensor, Stream, Trial
from hpc.config import NO_FILE, InputFile, input_file


@dataclass(frozen=True)
class Sources:
    """Source estimates of cortical regions and places, from EEG and MEG, by mne's eLORETA, dSPM or LCMV."""

    folder: str = ""
    """The head's folder in SUBJECTS_DIR: that of fsaverage, as mne fetches it, or the subject's, as heads/{subject}."""
    regions: tuple[str, ...] = ()
    """Names of regions, as superiortemporal-lh, or of groups of HCP-MMP1, as Early Visual or MT+ complex-rh; without a
    side, both as one. By default all of the parcellation, if there are no places."""
    parcellation: str = "aparc"  # name of the parcellation in FreeSurfer: aparc, aparc.a2009s, HCPMMP1
    snr: float = 3.0  # signal-to-noise ratio, which sets mne's lambda2 to 1 / snr²; a lower one regularises more
    name: Literal["sources"] = "sources"
    method: Literal["eLORETA", "dSPM", "sLORETA", "MNE", "LCMV"] = "eLORETA"
    """The inverse: minimum norms with mne's defaults, or the unit-noise-gain beamformer LCMV."""
    course: Literal["first_component", "mean_flip"] = "first_component"
    """A region's course: the first component of its sources over the trials, as mne's pca_flip, or their mean along
    the normals of the surface, as mne's mean_flip, which knows nothing of the data."""
    places: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Places by name, each three coordinates in the MNI, in mm: {Heschl: [-42, -22, 7]}."""
    radius_mm: float = 10.0  # sources up to this distance are of a place, in mm
    ica: bool = False
    """A channel for each independent component at each region or place: the component alone, back-projected."""
    seed: int = 0  # seed of FastICA, with ica
    model: Literal["surfaces", "sphere"] = "surfaces"
    """The head: surfaces and their files, or a sphere, a rough stand-in without files."""
    src: str = ""  # the file of the source space; by default bem/*-src.fif in the folder; {subject} is the subject
    bem: str = ""  # the file of the BEM solution; by default bem/*-bem-sol.fif in the folder
    trans: str = ""  # the file of the coregistration; by default */*-trans.fif in the folder
    noise_cov: InputFile = NO_FILE  # a noise covariance, as mne writes it (-cov.fif); by default mne's ad hoc one
    ADDED_LATER: ClassVar[tuple[str, ...]] = (
        "bem", "course", "ica", "method", "model", "noise_cov", "places", "radius_mm", "seed", "src", "trans",
    )  # fmt: skip
    SYNONYMS: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("subjects_dir", "subject"), "folder is the head's folder, SUBJECTS_DIR/fsaverage"),
        **dict.fromkeys(("labels", "rois"), "regions are names of the parcellation or groups of HCP-MMP1"),
        "mode": "course is first_component, which is mne's pca_flip, or mean_flip",
        "lambda2": "snr sets it: lambda2 is 1 / snr²",
    }

    def __post_init__(self) -> None:
        if self.snr <= 0:
            raise ValueError(f"snr must be above 0, got {self.snr}")
        if self.radius_mm <= 0:
            raise ValueError(f"radius_mm must be above 0, got {self.radius_mm:g}")
        if wrong := [name for name, place in self.places.items() if len(place) != 3]:
            raise ValueError(f"a place is x, y, z in mm, got {len(self.places[wrong[0]])} numbers for {wrong[0]}")
        if both := [name for name in self.places if name in self.regions]:
            raise ValueError(f"{', '.join(both)} is a region and a place: give the place another name")
        if self.model == "surfaces" and not self.folder:
            raise ValueError(
                "folder is the folder of a head, as ~/mne_data/MNE-fsaverage-data/fsaverage; or set model=sphere, a "
                "rough stand-in that needs no files"
            )
        if self.model == "sphere" and self.course == "mean_flip":
            raise ValueError("course=mean_flip needs the normals of surfaces, which a sphere has not")

    @property
    def needs_whole(self) -> bool:
        return self.ica or self.method == "LCMV" or self.course == "first_component"

    @property
    def needs_regions(self) -> bool:
        return bool(self.regions) or not self.places

    @property
    def needs_mni(self) -> bool:
        return bool(self.places)

    def check_subjects(self, subjects: Sequence[str]) -> None:
        """Refuse a subject whose head's files are not there, and a region that the first one has not."""
        if self.model == "sphere":
            for name in self.regions:
                cortex.centres(name)
            return
        heads = [head_files.of_head(self, subject) for subject in subjects]
        if self.regions and heads:
            there = cortex.of_parcellation(heads[0].annot)
            for name in self.regions:
                cortex.parcels(name, there, self.parcellation)


log = logging.getLogger(__name__)


def files(cfg: Sources, subject: str) -> list[Path]:
    own = [*head_files.of_head(cfg, subject)] if cfg.model == "surfaces" else []
    return [*own, input_file(cfg.noise_cov)] if cfg.noise_cov else own


def apply(cfg: Sources, stream: Stream, trials: Sequence[Trial]) -> Stream:
    names, matrix, note = estimated(cfg, stream, trials)
    log.info("%s", note)
    stream = replace(stream, decisions=stream.decisions + Decisions(notes=(note,)))
    return replace(mapped(stream, matrix, names), sensors={name: Sensor("source") for name in names})


def estimated(cfg: Sources, stream: Stream, trials: Sequence[Trial]) -> tuple[tuple[str, ...], np.ndarray, str]:
    """Names of the courses, their weights [course, channel], and how they came about, in a sentence."""
    model, rows = sources_of(cfg, stream)
    if empty := [name for name, own in rows.items() if not len(own)]:
        raise ValueError(f"no source lies in {', '.join(empty)}: choose a larger region, or raise sources.radius_mm")
    if cfg.course == "mean_flip" and not model.is_surface:
        raise ValueError("course=mean_flip needs the normals of surfaces, and sources.src is a volume")
    covariance = statistics.covariance(stream, trials) if cfg.needs_whole else np.eye(stream.n_channels)
    noise = input_file(cfg.noise_cov) if cfg.noise_cov else None
    solution = inverse.solution(model, cfg.method, cfg.snr, covariance, noise)
    regions = {name: inverse.Region(solution[own], inverse.flips(model, own)) for name, own in rows.items()}
    how = {
        "first_component": "the first component of its sources over the trials (mne's pca_flip)",
        "mean_flip": "the mean of its sources along their normals (mne's mean_flip)",
    }[cfg.course]
    sentence = f"sources: {cfg.method} on {model.phrase}; the course of a region is {how}"
    if cfg.ica:
        names, matrix = _of_components(cfg, stream, regions)
        each = f"for each of {len(names) // len(regions)} independent components alone"
        return names, matrix, f"{sentence}, {each}: its regions differ by a factor, which scale would undo"
    courses = [inverse.course(region, covariance, cfg.course) for region in regions.values()]
    return tuple(regions), np.array([course.weights for course in courses]), sentence + inverse.shares(courses)


def sources_of(cfg: Sources, stream: Stream) -> tuple[head.Head, dict[str, np.ndarray]]:
    """The model of the head, and the rows of its sources in each region and place."""
    if cfg.model == "sphere":
        model = head.sphere(stream)
        wanted = cfg.regions or (
            () if cfg.places else tuple(f"{name}-{side}" for name in cortex.GROUPS for side in cortex.SIDES)
        )
        return model, head.in_sphere(model, wanted, cfg.places, cfg.radius_mm)
    own = head_files.of_head(cfg, stream.subject)
    model = head.of_files(stream, own)
    rows = head.in_regions(model, cfg.regions, own.annot, cfg.parcellation) if cfg.needs_regions else {}
    return model, rows | (head.in_places(model, own, cfg.places, cfg.radius_mm) if cfg.places else {})


def _of_components(
    cfg: Sources, stream: Stream, regions: Mapping[str, inverse.Region]
) -> tuple[tuple[str, ...], np.ndarray]:
    """A course for each region and component."""
    found = ica.decompose(stream, cfg.seed).components
    mixing = found.unit[:, None] * found.mixing
    unmixing = found.unmixing / found.unit
    gains = {name: inverse.of_components(region, mixing, cfg.course) for name, region in regions.items()}
    names = tuple(f"{name} ICA{index:03d}" for name in regions for index in range(len(unmixing)))
    return names, np.concatenate([gain[:, None] * unmixing for gain in gains.values()])

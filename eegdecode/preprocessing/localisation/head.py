"""Models of a head: what each source gives at each sensor, by mne, and which sources are in a region or place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mne
import numpy as np

from eegdecode.preprocessing.localisation import regions
from eegdecode.preprocessing.localisation.files import HeadFiles
from eegdecode.signals import Kind, Stream

MODELLED: tuple[Kind, ...] = ("eeg", "mag", "grad")
BY_NAME = ("colin27_1005", "standard_1005")
"""mne's positions of electrodes by their names, which fit fsaverage: now, and before mne 1.13."""
GRID_MM = 10.0
"""Between the sources of the sphere."""
BRAIN_SHARE = 0.9
"""Of the sphere's radius, as of mne's layers: brain, fluid, skull and scalp."""
N_TO_FIT = 8
"""Points that a sphere is fitted to, at least."""


@dataclass(frozen=True)
class Head:
    """A forward model, and what it stands on, in a phrase."""

    info: mne.Info
    forward: mne.Forward
    phrase: str

    @property
    def is_surface(self) -> bool:
        """Whether its sources have the normal of a surface."""
        return bool(self.forward["src"].kind == "surface")

    @property
    def positions(self) -> np.ndarray:
        """[source, 3]: in metres, in the coordinates of the head."""
        return np.concatenate([space["rr"][space["vertno"]] for space in self.forward["src"]])

    @property
    def normals(self) -> np.ndarray:
        """[source, 3]."""
        return np.concatenate([space["nn"][space["vertno"]] for space in self.forward["src"]])


def of_files(stream: Stream, files: HeadFiles) -> Head:
    info = sensor_info(stream)
    forward = mne.make_forward_solution(info, files.trans, files.src, files.bem, verbose="error")
    whose = "the average head" if files.is_average else "the subject's own"
    phrase = f"{files.folder.name} ({whose}), {files.src.stem.removesuffix('-src')}"
    return Head(info, forward, phrase + _placed(stream))


def sphere(stream: Stream) -> Head:
    """Layered spheres around the sensors, and a grid of sources in the innermost."""
    info = sensor_info(stream)
    centre, radius = _fitted(info)
    model = mne.make_sphere_model(tuple(centre), radius, verbose="error")
    space = mne.setup_volume_source_space(
        pos=GRID_MM, sphere=(*centre, BRAIN_SHARE * radius), sphere_units="m", exclude=0.0, verbose="error"
    )
    forward = mne.make_forward_solution(info, None, space, model, verbose="error")
    phrase = f"a sphere of {1e3 * radius:.0f} mm as a stand-in for the head, without its surfaces"
    return Head(info, forward, phrase + _placed(stream))


def _placed(stream: Stream) -> str:
    is_eeg = all(stream.sensor(name).kind == "eeg" for name in stream.channels)
    return ", electrodes by name" if is_eeg and is_by_name(stream) else ""


def in_regions(head: Head, wanted: Sequence[str], annot: Sequence[Path], parcellation: str) -> dict[str, np.ndarray]:
    """The rows of the sources in each region; without a wish, in all of the parcellation that have any."""
    if not head.is_surface:
        raise ValueError("regions need surfaces, and sources.src is a volume: give places instead")
    there = regions.of_parcellation(annot)
    first = {"lh": 0, "rh": len(head.forward["src"][0]["vertno"])}
    spaces = dict(zip(regions.SIDES, head.forward["src"], strict=True))

    def rows(parcel: str) -> np.ndarray:
        side = parcel[-2:]
        return first[side] + np.flatnonzero(np.isin(spaces[side]["vertno"], there[parcel]))

    if not wanted:
        return {name: own for name in there if len(own := rows(name))}
    return {
        name: np.concatenate([rows(parcel) for parcel in regions.parcels(name, there, parcellation)]) for name in wanted
    }


def in_places(
    head: Head, files: HeadFiles, places: Mapping[str, Sequence[float]], radius_mm: float
) -> dict[str, np.ndarray]:
    """The rows of the sources around each point in the MNI, in mm."""
    mri = mne.transforms.apply_trans(mne.transforms.invert_transform(head.forward["mri_head_t"]), head.positions)
    mni = mri
    if files.mni:
        to_mni = mne.read_talxfm(files.folder.name, files.folder.parent, verbose="error")
        mni = mne.transforms.apply_trans(to_mni, mri)
    return {name: _within(1e3 * mni, [point], radius_mm) for name, point in places.items()}


def in_sphere(
    head: Head, wanted: Sequence[str], places: Mapping[str, Sequence[float]], radius_mm: float
) -> dict[str, np.ndarray]:
    """The rows of the sources around the centres of groups and around places: the MNI's brain, made a ball."""
    average = Path(mne.__file__).parent / "data" / "fsaverage"
    to_head = mne.read_trans(average / "fsaverage-trans.fif", verbose="error")
    if to_head["from"] != mne.io.constants.FIFF.FIFFV_COORD_MRI:
        to_head = mne.transforms.invert_transform(to_head)
    (skull,) = mne.read_bem_surfaces(average / "fsaverage-inner_skull-bem.fif", verbose="error")
    skull_centre, skull_radius = _ball(mne.transforms.apply_trans(to_head, skull["rr"]))
    centre, radius = _fitted(head.info)
    points = {name: regions.centres(name) for name in wanted} | {name: [tuple(at)] for name, at in places.items()}

    def inside(point: Sequence[float]) -> np.ndarray:
        at = mne.transforms.apply_trans(to_head, np.array(point) / 1e3)
        return 1e3 * (centre + (at - skull_centre) * BRAIN_SHARE * radius / skull_radius)

    return {name: _within(1e3 * head.positions, [inside(p) for p in some], radius_mm) for name, some in points.items()}


def sensor_info(stream: Stream) -> mne.Info:
    """The channels as an mne.Info: of EEG alone with the positions of the stream, else with the coils of the file."""
    kinds = {name: stream.sensor(name).kind for name in stream.channels}
    if others := [name for name, kind in kinds.items() if kind not in MODELLED]:
        raise ValueError(
            f"sources are estimated from EEG and MEG, not from {', '.join(others)}: pick kinds: [eeg, mag, grad] before"
        )
    if set(kinds.values()) == {"eeg"}:
        return _of_eeg(stream)
    known = stream.info["ch_names"] if stream.info is not None else []
    if unknown := [name for name in stream.channels if name not in known]:
        raise ValueError(
            f"sources needs the coils, which are not known of {', '.join(unknown[:5])}: it reads the files of the "
            "machine (FIF, CTF, KIT …), and comes before steps that rename or mix channels"
        )
    info = mne.pick_info(stream.info, [known.index(name) for name in stream.channels])
    if lacking := [ch["ch_name"] for ch in info["chs"] if not np.isfinite(ch["loc"]).all() or not ch["loc"].any()]:
        raise ValueError(f"sources needs the coils, but the file has no position of {', '.join(lacking[:5])}")
    if info["dev_head_t"] is None:
        raise ValueError(
            "sources needs the position of the head, which is not in the file (dev_head_t): fetch the file with it"
        )
    with info._unlock():
        info["sfreq"] = stream.sfreq
        info["bads"], info["projs"], info["comps"] = [], [], []  # as steps see the samples: nothing is projected out
    return info


def _of_eeg(stream: Stream) -> mne.Info:
    places = {name: place for name in stream.channels if (place := stream.sensor(name).position) is not None}
    info = mne.create_info(list(stream.channels), stream.sfreq, "eeg")
    known = mne.channels.get_builtin_montages()
    standard = mne.channels.make_standard_montage(next(name for name in BY_NAME if name in known))
    if is_by_name(stream) and not set(stream.channels) - set(standard.ch_names):
        info.set_montage(standard)
        return info
    if unplaced := [name for name in stream.channels if name not in places]:
        raise ValueError(
            f"sources: the position of {', '.join(unplaced)} is not known; give electrodes.tsv, or pick the others "
            "before. Where no position is known, names of the 10-05 system have one: the step aliases writes them"
        )
    info.set_montage(mne.channels.make_dig_montage(places, coord_frame="head"))
    return info


def is_by_name(stream: Stream) -> bool:
    """Whether no position is known, so that the electrodes are where their names say."""
    return not any(stream.sensor(name).position for name in stream.channels)


def _fitted(info: mne.Info) -> tuple[np.ndarray, float]:
    """Centre and radius of the head, in metres: through the electrodes, or the digitised points."""
    eeg = [ch["loc"][:3] for ch in info["chs"] if ch["kind"] == mne.io.constants.FIFF.FIFFV_EEG_CH]
    points = np.array(eeg if len(eeg) >= N_TO_FIT else [point["r"] for point in info["dig"] or ()])
    if len(points) < N_TO_FIT:
        raise ValueError(
            f"a sphere is fitted to {N_TO_FIT} electrodes or digitised points of the head, and {len(points)} are "
            "known: use the surfaces, by sources.folder"
        )
    return _ball(points)


def _ball(points: np.ndarray) -> tuple[np.ndarray, float]:
    """The sphere through points: |p|² = 2 c·p + (r² - |c|²) is linear in c."""
    solution = np.linalg.lstsq(np.hstack([2 * points, np.ones((len(points), 1))]), (points**2).sum(axis=1), rcond=None)[
        0
    ]
    centre = solution[:3]
    return centre, float(np.sqrt(solution[3] + centre @ centre))


def _within(sources: np.ndarray, points: Sequence[Sequence[float] | np.ndarray], radius: float) -> np.ndarray:
    away = np.min([np.linalg.norm(sources - np.array(point), axis=1) for point in points], axis=0)
    return np.flatnonzero(away <= radius)

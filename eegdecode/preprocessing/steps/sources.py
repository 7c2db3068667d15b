"""Source estimates of cortical regions: eLORETA on fsaverage, by mne.

The solution is linear: a region is a row of weights over the channels, so the stream is still read in blocks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from eegdecode.preprocessing.channels import mapped
from eegdecode.signals import Sensor, Stream, Trial

if TYPE_CHECKING:
    import mne


@dataclass(frozen=True)
class Sources:
    """Source estimates of cortical regions, by eLORETA on the average head fsaverage."""

    folder: str  # the folder of fsaverage, as mne fetches it
    regions: tuple[str, ...] = ()  # names of regions, as `superiortemporal-lh`; by default all of the parcellation
    parcellation: str = "aparc"  # name of the parcellation in FreeSurfer: aparc, aparc.a2009s
    snr: float = 3.0  # signal-to-noise ratio, which sets mne's lambda2 to 1 / snr²; a lower one regularises more
    name: Literal["sources"] = "sources"

    def __post_init__(self) -> None:
        if self.snr <= 0:
            raise ValueError(f"snr must be above 0, got {self.snr}")


MODEL = ("bem/fsaverage-ico-5-src.fif", "bem/fsaverage-5120-5120-5120-bem-sol.fif", "bem/fsaverage-trans.fif")


def apply(cfg: Sources, stream: Stream, trials: Sequence[Trial]) -> Stream:
    names, matrix = regions(cfg, stream)
    return replace(mapped(stream, matrix, names), sensors={name: Sensor("source") for name in names})


def regions(cfg: Sources, stream: Stream) -> tuple[tuple[str, ...], np.ndarray]:
    """Names, and weights [region, channel]."""
    folder = Path(cfg.folder).expanduser()
    labels = tuple(f"label/{side}.{cfg.parcellation}.annot" for side in ("lh", "rh"))
    if missing := [name for name in (*MODEL, *labels) if not (folder / name).is_file()]:
        raise ValueError(
            f"sources needs fsaverage, but {folder} lacks {', '.join(missing)}: fetch it where there is a network, by "
            f"python -c \"import mne; mne.datasets.fetch_fsaverage('{folder.parent}')\""
        )
    import mne

    source_space, bem, trans = (folder / name for name in MODEL)
    info = sensor_info(stream)
    forward = mne.make_forward_solution(info, trans, source_space, bem, meg=False, verbose="error")
    parcels = mne.read_labels_from_annot(
        folder.name, cfg.parcellation, subjects_dir=folder.parent, sort=True, verbose="error"
    )
    hemispheres = dict(zip(("lh", "rh"), forward["src"], strict=True))
    first = {"lh": 0, "rh": len(forward["src"][0]["vertno"])}
    rows = {
        label.name: first[label.hemi] + np.flatnonzero(np.isin(hemispheres[label.hemi]["vertno"], label.vertices))
        for label in parcels
    }
    wanted = cfg.regions or tuple(name for name in rows if len(rows[name]))
    if unknown := [name for name in wanted if name not in rows]:
        raise ValueError(f"{cfg.parcellation} has no region {', '.join(unknown)}; it has {', '.join(rows)}")
    return wanted, weights(info, forward, {name: rows[name] for name in wanted}, cfg.snr)


def sensor_info(stream: Stream) -> "mne.Info":
    """The channels and their positions as an mne.Info."""
    import mne

    if others := [name for name in stream.channels if stream.sensor(name).kind != "eeg"]:
        raise ValueError(f"sources are estimated from EEG alone, not {', '.join(others)}: pick kinds: [eeg] before")
    places = {name: place for name in stream.channels if (place := stream.sensor(name).position) is not None}
    if unplaced := [name for name in stream.channels if name not in places]:
        raise ValueError(f"sources: the position of {', '.join(unplaced)} is not known; pick the others before")
    info = mne.create_info(list(stream.channels), stream.sfreq, "eeg")
    info.set_montage(mne.channels.make_dig_montage(places, coord_frame="head"))
    return info


def weights(info: "mne.Info", forward: "mne.Forward", rows: Mapping[str, np.ndarray], snr: float) -> np.ndarray:
    """[region, channel]: along the direction in which the sources of a region vary most, scaled to their RMS."""
    import mne
    from mne.minimum_norm import apply_inverse_raw, make_inverse_operator

    n = len(info["ch_names"])
    unit = mne.io.RawArray(np.eye(n), info, verbose="error")  # the response to each channel alone
    unit.set_eeg_reference(projection=True, verbose="error")
    noise = mne.make_ad_hoc_cov(unit.info, verbose="error")
    inverse = make_inverse_operator(unit.info, forward, noise, loose="auto", verbose="error")
    estimate = apply_inverse_raw(unit, inverse, 1 / snr**2, "eLORETA", pick_ori="vector", verbose="error")
    solution = np.asarray(estimate.data)  # [source, direction, channel]
    out = np.empty((len(rows), n))
    for row, (name, sources) in enumerate(rows.items()):
        if not len(sources):
            raise ValueError(f"no source lies in {name}: choose a larger region")
        own = solution[sources].reshape(-1, n)
        left, strength, right = np.linalg.svd(own, full_matrices=False)
        sign = np.sign(left[:, 0].sum()) or 1.0
        out[row] = sign * strength[0] / np.sqrt(len(own)) * right[0]
    return out

"""Maxwell filtering of MEG (SSS, tSSS), by mne, in bounded memory.

Without tSSS the filter is one matrix over the channels, which mne's response to unit samples gives. With it, windows of
st_duration are filtered one after the other, as mne does with st_overlap=False: the numbers are those of a whole file.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from eegdecode.signals import Decisions, Stream, Trial
from hpc.config import NO_FILE, InputFile, input_file

if TYPE_CHECKING:
    import mne


@dataclass(frozen=True)
class Maxwell:
    """Maxwell filtering of MEG, SSS or tSSS. It reconstructs channels that are marked as bad. First of the steps that
    change the signal."""

    name: Literal["maxwell"] = "maxwell"
    st_duration: float = 0.0  # seconds of a window of tSSS, as 10; 0: SSS without it
    st_correlation: float = 0.98  # least correlation of what tSSS removes
    calibration: InputFile = NO_FILE  # the file of the machine's fine calibration, sss_cal_XXXX.dat
    cross_talk: InputFile = NO_FILE  # the file of the machine's cross-talk, ct_sparse_XXXX.fif
    origin: tuple[float, ...] = ()  # of the expansion, three metres in the head; empty: fitted to the head shape
    coord_frame: Literal["head", "meg"] = "head"  # meg: for recordings without a head, as of an empty room
    int_order: int = 8  # order of the expansion inside of the helmet
    ext_order: int = 3  # order of the expansion outside of it
    SYNONYMS: ClassVar[dict[str, str]] = {
        "st_overlap": "windows of st_duration seconds do not overlap here, as with st_overlap=False",
        **dict.fromkeys(
            ("head_pos", "destination"),
            "movement of the head is not compensated here; origin is in the frame of coord_frame",
        ),
    }

    def __post_init__(self) -> None:
        if self.st_duration < 0 or not 0 < self.st_correlation <= 1:
            raise ValueError(
                "st_duration is above 0 s, or 0 for none, and st_correlation within 0 to 1, "
                f"got {self.st_duration:g} and {self.st_correlation:g}"
            )
        if self.origin and len(self.origin) != 3:
            raise ValueError(f"origin has three numbers, in metres, got {len(self.origin)}")
        if self.int_order < 1 or self.ext_order < 0:
            raise ValueError(
                f"int_order is 1 or more and ext_order 0 or more, got {self.int_order} and {self.ext_order}"
            )


log = logging.getLogger(__name__)

CHUNK_VALUES = 1 << 23
"""Of windows that are filtered together: 64 MiB in float64."""


def files(cfg: Maxwell, subject: str) -> list[Path]:
    return [input_file(setting) for setting in (cfg.calibration, cfg.cross_talk) if setting]


def apply(cfg: Maxwell, stream: Stream, trials: Sequence[Trial]) -> Stream:
    info = coils(cfg, stream)
    meg = [index for index, name in enumerate(stream.channels) if stream.sensor(name).kind in ("mag", "grad")]
    bads = [name for name in stream.unrepaired if name in info["bads"]]
    read = _windowed(cfg, stream, info, meg) if cfg.st_duration else _mapped(cfg, stream, info, meg)
    what = f"tSSS in windows of {cfg.st_duration:g} s" if cfg.st_duration else "SSS"
    log.info("maxwell: %s of %d channels; reconstructed: %s", what, len(meg), ", ".join(bads) or "none")
    repaired = tuple({"name": n, "decision": "reconstructed", "reason": "the recording says so"} for n in bads)
    return replace(stream, read=read, decisions=stream.decisions + Decisions(channels=repaired))


def coils(cfg: Maxwell, stream: Stream) -> "mne.Info":
    """The mne.Info of the MEG channels, with their coils and the place of the head."""
    import mne

    names = [name for name in stream.channels if stream.sensor(name).kind in ("mag", "grad")]
    if not names:
        raise ValueError("maxwell filters MEG, and this recording has no magnetometer or gradiometer: leave it out")
    known = stream.info["ch_names"] if stream.info is not None else []
    if unknown := [name for name in names if name not in known]:
        raise ValueError(
            f"maxwell needs the coils, which are not known of {', '.join(unknown[:5])}: it reads the files of the "
            "machine (FIF, CTF, KIT …), and comes before steps that rename or mix channels"
        )
    info = mne.pick_info(stream.info, [known.index(name) for name in names])
    lacking = [
        channel["ch_name"]
        for channel in info["chs"]
        if not np.isfinite(channel["loc"]).all() or not channel["loc"].any()
    ]
    if lacking:
        raise ValueError(f"maxwell needs the coils, but the file has no position of {', '.join(lacking[:5])}")
    if cfg.coord_frame == "head" and info["dev_head_t"] is None:
        raise ValueError(
            "maxwell needs the position of the head, which is not in the file (dev_head_t): fetch the file with it, or "
            "set maxwell.coord_frame=meg for a recording without a head"
        )
    if cfg.coord_frame == "head" and not cfg.origin and not info["dig"]:
        raise ValueError(
            "maxwell fits its origin to the shape of the head, which is not in the file (no digitised points): set "
            "maxwell.origin=[0,0,0.04], in metres"
        )
    with info._unlock():
        info["sfreq"] = stream.sfreq
        info["bads"] = [name for name in names if name in stream.unrepaired]
        info["comps"] = []
    return info


def filtered(cfg: Maxwell, info: "mne.Info", data: np.ndarray) -> np.ndarray:
    """[channel, time] through mne's filter; with tSSS, data is a number of windows."""
    import mne

    st_duration = None
    if cfg.st_duration:
        st_duration = min(cfg.st_duration, data.shape[1] / info["sfreq"])
    raw = mne.io.RawArray(data, info, verbose="error")
    try:
        done = mne.preprocessing.maxwell_filter(
            raw,
            origin=cfg.origin or "auto",
            int_order=cfg.int_order,
            ext_order=cfg.ext_order,
            calibration=str(input_file(cfg.calibration)) if cfg.calibration else None,
            cross_talk=str(input_file(cfg.cross_talk)) if cfg.cross_talk else None,
            st_duration=st_duration,
            st_correlation=cfg.st_correlation,
            st_overlap=False,
            coord_frame=cfg.coord_frame,
            skip_by_annotation=(),
            verbose="error",
        )
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"maxwell: {' '.join(str(error).split())}") from None
    return np.asarray(done.get_data())


def _mapped(cfg: Maxwell, stream: Stream, info: "mne.Info", meg: list[int]) -> Callable[[int, int], np.ndarray]:
    matrix = filtered(cfg, info, np.eye(len(meg))).T

    def read(first: int, stop: int) -> np.ndarray:
        data = np.array(stream.read(first, stop))
        data[:, meg] = data[:, meg].astype(np.float64) @ matrix
        return data

    return read


def _windowed(cfg: Maxwell, stream: Stream, info: "mne.Info", meg: list[int]) -> Callable[[int, int], np.ndarray]:
    """Reads whole windows, several at a time; the last one reaches to the end, as mne's does."""
    window = max(1, min(round(cfg.st_duration * stream.sfreq), stream.n_times))
    n_windows = max(1, stream.n_times // window)
    together = max(1, CHUNK_VALUES // (window * len(meg)))
    edges = [*range(0, n_windows * window, together * window), stream.n_times]
    kept: tuple[int, Any] = (-1, None)

    def chunk(number: int) -> np.ndarray:
        nonlocal kept
        if kept[0] != number:
            data = np.array(stream.read(edges[number], edges[number + 1]))
            data[:, meg] = filtered(cfg, info, data[:, meg].T.astype(np.float64)).T
            kept = number, data
        whole: np.ndarray = kept[1]
        return whole

    def read(first: int, stop: int) -> np.ndarray:
        parts = []
        while first < stop:
            number = min(first // (together * window), len(edges) - 2)
            end = min(stop, edges[number + 1])
            parts.append(chunk(number)[first - edges[number] : end - edges[number]])
            first = end
        return np.concatenate(parts) if parts else stream.read(first, first)

    return read

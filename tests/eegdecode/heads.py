"""A made-up head in a folder of SUBJECTS_DIR: its cortex is two half balls, its skull a ball, in FreeSurfer's and mne's
files, small enough to be computed in seconds."""

from collections.abc import Mapping
from pathlib import Path

import mne
import numpy as np
from mne.bem import _surfaces_to_bem  # the public ways to these need nibabel
from mne.label import _write_annot
from mne.surface import _get_ico_surface, complete_surface_info

CORTEX_M, SKIN_M = 0.07, 0.095
LAYERS_M = (0.081, 0.086, SKIN_M)


def ball(radius: float, grade: int = 3) -> dict:  # type: ignore[type-arg]
    """A sphere around the origin, as a surface."""
    surface = _get_ico_surface(grade)
    surface["rr"] = surface["rr"] * radius
    return complete_surface_info(surface, copy=False, verbose="error")


def half(left: bool) -> dict:  # type: ignore[type-arg]
    """One hemisphere as a source space; in its lower middle is no cortex."""
    whole = ball(CORTEX_M)
    x, _, z = whole["rr"].T
    used = ((x < -0.005) if left else (x > 0.005)) & (z > -0.03)
    vertno = np.flatnonzero(used)
    space = {**whole, "id": 101 if left else 102, "type": "surf", "coord_frame": 5, "np": len(x), "inuse": used * 1}
    space |= {"nuse": len(vertno), "vertno": vertno, "nuse_tri": 0, "use_tris": None, "nearest": None}
    space |= {"nearest_dist": None, "pinfo": None, "patch_inds": None, "dist": None, "dist_limit": None}
    return space


def region_names(parcellation: str) -> Mapping[str, tuple[float, float, float]]:
    """Of a left hemisphere the names of regions and where they are; the right one is its mirror image."""
    centres = {"back": (-0.3, -1.0, 0.2), "side": (-1.0, -0.1, 0.1), "front": (-0.4, 1.0, 0.4), "top": (-0.3, 0.0, 1.0)}
    names = {
        "aparc": ("occipital", "temporal", "frontal", "central"),
        "HCPMMP1": ("{side}_V2_ROI", "{side}_A1_ROI", "{side}_8C_ROI", "{side}_4_ROI"),
        "HCPMMP1_combined": (
            "Early Visual Cortex", "Early Auditory Cortex", "DorsoLateral Prefrontal Cortex",
            "Somatosensory and Motor Cortex",
        ),
    }[parcellation]  # fmt: skip
    return dict(zip(names, centres.values(), strict=True))


def write(folder: Path, parcellations: tuple[str, ...] = ("aparc", "HCPMMP1", "HCPMMP1_combined")) -> Path:
    """The files of the head, under the names of mne; fsaverage has its own names."""
    name = folder.name
    for each in ("bem", "label"):
        (folder / each).mkdir(parents=True, exist_ok=True)
    src = mne.SourceSpaces([half(True), half(False)])
    model = _surfaces_to_bem([ball(r, 1) for r in LAYERS_M[::-1]], [4, 3, 1], [0.3, 0.006, 0.3], rescale=False)
    bem = mne.make_bem_solution(model, verbose="error")
    average = name == "fsaverage"
    mne.write_source_spaces(folder / "bem" / f"{name}-ico-{5 if average else 3}-src.fif", src, verbose="error")
    layers = "5120-5120-5120" if average else "80-80-80"
    mne.write_bem_solution(folder / "bem" / f"{name}-{layers}-bem-sol.fif", bem, verbose="error")
    mne.write_trans(folder / "bem" / f"{name}-trans.fif", mne.Transform("head", "mri"), verbose="error")
    for parcellation in parcellations:
        for side in ("lh", "rh"):
            _write_annot(folder / "label" / f"{side}.{parcellation}.annot", *_annot(parcellation, side))
    return folder


def _annot(parcellation: str, side: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Each vertex is of the nearest region, if that is near."""
    names = region_names(parcellation)
    points = np.array(list(names.values())) * (1 if side == "lh" else [-1, 1, 1])
    away = points / np.linalg.norm(points, axis=1, keepdims=True)
    cosine = ball(1.0)["rr"] @ away.T
    colours = np.array([[40 * k + 10, 20, 30, 0] for k in range(len(names))])
    codes = colours[:, 0] + (colours[:, 1] << 8) + (colours[:, 2] << 16)
    region = cosine.argmax(axis=1)
    codes_of = np.where(cosine.max(axis=1) > np.cos(np.radians(32)), codes[region], 0)
    return codes_of, np.column_stack([colours, codes]), [name.format(side=side[0].upper()) for name in names]

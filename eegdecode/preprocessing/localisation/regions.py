"""Regions of the cortex by name: those of a parcellation, and groups of areas of HCP-MMP1."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpc.errors import did_you_mean

Point = tuple[float, float, float]
SIDES = ("lh", "rh")


@dataclass(frozen=True)
class Group:
    """A group of areas of HCP-MMP1.

    Parameters
    ----------
    areas
        Their names in the parcellation HCPMMP1.
    combined
        The group's names in HCPMMP1_combined, as mne writes it.
    centre
        About where its left half lies in the MNI, in mm: enough for a sphere, and for nothing else.
    """

    areas: tuple[str, ...]
    combined: tuple[str, ...]
    centre: Point


EARLY_AUDITORY = ("A1", "LBelt", "MBelt", "PBelt", "RI")
AUDITORY_ASSOCIATION = ("A4", "A5", "STSdp", "STSda", "STSvp", "STSva", "STGa", "TA2")
DORSAL = ("V3A", "V3B", "V6", "V6A", "V7", "IPS1")
VENTRAL = ("V8", "VVC", "PIT", "FFC", "VMV1", "VMV2", "VMV3")
MT = ("V3CD", "LO1", "LO2", "LO3", "V4t", "FST", "MT", "MST", "PH")
GROUPS = {
    "Primary Visual": Group(("V1",), ("Primary Visual Cortex (V1)",), (-10, -86, 2)),
    "Early Visual": Group(("V2", "V3", "V4"), ("Early Visual Cortex",), (-20, -88, 0)),
    "Dorsal stream": Group(DORSAL, ("Dorsal Stream Visual Cortex",), (-22, -80, 30)),
    "Ventral stream": Group(VENTRAL, ("Ventral Stream Visual Cortex",), (-33, -62, -14)),
    "MT+ complex": Group(MT, ("MT+ Complex and Neighboring Visual Areas",), (-45, -72, 4)),
    "Auditory": Group(
        EARLY_AUDITORY + AUDITORY_ASSOCIATION,
        ("Early Auditory Cortex", "Auditory Association Cortex"),
        (-54, -18, 2),
    ),
    "Early Auditory": Group(EARLY_AUDITORY, ("Early Auditory Cortex",), (-47, -22, 8)),
    "Auditory Association": Group(AUDITORY_ASSOCIATION, ("Auditory Association Cortex",), (-59, -16, -3)),
    "Somatosensory and Motor": Group(("4", "3a", "3b", "1", "2"), ("Somatosensory and Motor Cortex",), (-38, -26, 54)),
    "Premotor": Group(("55b", "6d", "6a", "FEF", "6v", "6r", "PEF"), ("Premotor Cortex",), (-46, 2, 42)),
}
"""As in the supplement of Glasser et al. (2016), doi:10.1038/nature18933; Auditory is both of its auditory groups."""


def parcels(wanted: str, there: Mapping[str, np.ndarray], parcellation: str) -> list[str]:
    """The parcels that a name stands for: itself, on one side or both, or the areas of a group."""
    base, sides = sided(wanted)
    group = group_of(base)
    names = [base] if group is None else [*group.areas, *group.combined]
    spellings = [
        spelling
        for name in names
        for side in sides
        for spelling in (f"{name}-{side}", f"{side[0].upper()}_{name}_ROI-{side}")
    ]
    if some := [name for name in spellings if name in there]:
        return some
    if group is not None:
        raise ValueError(
            f"{wanted!r} is a group of areas of HCP-MMP1, which {parcellation} does not have: set "
            "sources.parcellation=HCPMMP1"
        )
    raise ValueError(f"{parcellation} has no region {wanted!r}.{did_you_mean(wanted, [*there, *GROUPS])}")


def centres(wanted: str) -> list[Point]:
    """About where a group lies, left and right, in mm of the MNI."""
    base, sides = sided(wanted)
    group = group_of(base)
    if group is None:
        raise ValueError(
            f"a sphere has no region {wanted!r}: it knows {', '.join(GROUPS)}, roughly, and what stands in "
            "sources.places; other regions need the surfaces in sources.folder"
        )
    x, y, z = group.centre
    return [(x if side == "lh" else -x, y, z) for side in sides]


def sided(name: str) -> tuple[str, tuple[str, ...]]:
    """The name without its side, and the sides that it means."""
    for side in SIDES:
        if name.endswith(f"-{side}"):
            return name.removesuffix(f"-{side}"), (side,)
    return name, SIDES


def group_of(name: str) -> Group | None:
    """The group of that name, in any case, or with the words that parcellations add."""
    for short, group in GROUPS.items():
        long = group.combined if len(group.combined) == 1 else ()
        if name.lower() in {spelling.lower() for spelling in (short, f"{short} Cortex", *long)}:
            return group
    return None


def of_parcellation(annot: Sequence[Path]) -> dict[str, np.ndarray]:
    """The vertices of each region, by `name-lh` and `name-rh`, sorted by name."""
    return dict(
        sorted(
            (f"{name}-{side}", vertices)
            for side, path in zip(SIDES, annot, strict=True)
            for name, vertices in read_annot(path).items()
        )
    )


def read_annot(path: Path) -> dict[str, np.ndarray]:
    """The vertices of each region in an annotation of FreeSurfer, for which mne would need nibabel.

    Big-endian int32: the number of vertices; pairs of a vertex and its colour; 1; the table of colours, version 2.
    """
    data = path.read_bytes()
    at = 0

    def take(n_bytes: int) -> bytes:
        nonlocal at
        if n_bytes < 0 or at + n_bytes > len(data):
            raise ValueError(f"{path} is cut off, or no annotation of FreeSurfer: fetch it again")
        at += n_bytes
        return data[at - n_bytes : at]

    def integers(n: int) -> np.ndarray:
        return np.frombuffer(take(4 * n), ">i4").astype(np.int64)

    def text() -> str:
        return take(int(integers(1)[0])).split(b"\0")[0].decode("utf-8", "replace")

    pairs = integers(2 * int(integers(1)[0])).reshape(-1, 2)
    has_table, version, _ = integers(3).tolist()
    if (has_table, version) != (1, -2):
        raise ValueError(
            f"{path} has no table of regions in FreeSurfer's version 2: write it anew by mne or FreeSurfer"
        )
    text()  # the file that the table is from
    out = {}
    for _ in range(int(integers(1)[0])):
        integers(1)
        name = text()
        red, green, blue, _ = integers(4).tolist()
        vertices = np.sort(pairs[pairs[:, 1] == red + (green << 8) + (blue << 16), 0])
        if len(vertices):
            out[name] = vertices
    return out

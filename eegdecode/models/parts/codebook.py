"""The 62 electrodes that EEGPT (Wang 2024) knows by name, in the order of its embeddings."""

import logging
from collections.abc import Sequence
from typing import Literal

log = logging.getLogger(__name__)

_ROWS = """
    FP1 FPZ FP2 AF7 AF3 AF4 AF8 F7 F5 F3 F1 FZ F2 F4 F6 F8 FT7 FC5 FC3 FC1 FCZ FC2 FC4 FC6 FT8
    T7 C5 C3 C1 CZ C2 C4 C6 T8 TP7 CP5 CP3 CP1 CPZ CP2 CP4 CP6 TP8 P7 P5 P3 P1 PZ P2 P4 P6 P8
    PO7 PO5 PO3 POZ PO4 PO6 PO8 O1 OZ O2
"""
NAMES = tuple(_ROWS.split())
ALIASES = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
"""Names of the older 10-20 system."""
PRETRAINED = tuple(name for name in NAMES if name not in ("AF7", "AF8", "PO5", "PO6"))
"""The 58 electrodes of the pretraining."""
_TEN_TWENTY = "FP1 FP2 F7 F3 FZ F4 F8 T7 C3 CZ C4 T8 P7 P3 PZ P4 P8 O1 O2"
TEN_TWENTY = tuple(_TEN_TWENTY.split())
"""The 19 electrodes of the linear probe."""


def number(channel: str) -> int | None:
    """Return the index of an electrode in the embeddings; None if it has none."""
    name = channel.strip(" .").upper()
    name = ALIASES.get(name, name)
    return NAMES.index(name) if name in NAMES else None


def places(channels: Sequence[str], unknown: Literal["drop", "error"]) -> tuple[list[int], list[int]]:
    """Return the indices of the channels that the codebook knows, and their indices in the embeddings."""
    numbers = [number(channel) for channel in channels]
    strange = [channel for channel, position in zip(channels, numbers, strict=True) if position is None]
    if strange:
        message = f"EEGPT does not know {', '.join(strange)}, {len(strange)} of {len(channels)} channels"
        if unknown == "error":
            raise ValueError(f"{message}: pick the others, rename them, set unknown=drop, or use a spatial filter")
        if len(strange) == len(channels):
            raise ValueError(f"{message}: rename them as in the 10-10 system, or use a spatial filter")
        log.warning("%s: they are left out", message)
    known = [(index, position) for index, position in enumerate(numbers) if position is not None]
    return [index for index, _ in known], [position for _, position in known]

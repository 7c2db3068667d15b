"""Networks whose electrodes attend to each other."""

from dataclasses import dataclass
from typing import ClassVar, Literal

Stage = Literal["cnn", "transformer", "gat", "fc"]


@dataclass(frozen=True)
class Hybrid:
    """A sequence of stages: gat+fc, cnn+transformer, transformer+cnn, cnn+gat, transformer+gat, cnn+transformer+gat
    (over space, over time, over nodes), or any other order."""

    name: Literal["hybrid"] = "hybrid"
    stages: tuple[Stage, ...] = ("cnn", "transformer")
    """Stages in their order. `cnn`: as the first, spatial and temporal filters; later, convolutions over neighbouring
    times. `transformer`: over time, for each node. `gat`: GATv2 over nodes, at each time. `fc`: merges all nodes of a
    time into one."""
    nodes: int = 8  # outputs of the spatial filters of a first cnn; 0: each electrode is a node
    patch_s: float = 0.125  # length of a time patch; shorter ones are more, and cost more
    kernel_s: float = 0.125  # length of the temporal filters of a first cnn
    width: int = 32  # features of a node at a time; a multiple of 2 * heads
    heads: int = 4  # attention heads of a transformer and of a gat, which share the width evenly
    layers: int = 2  # blocks of each transformer and of each gat
    dropout: float = 0.1  # share dropped of the attention, and of what each block or stage adds
    checkpoint: bool = False  # recompute blocks in the backward pass: less memory, about a third more time
    output_kind: ClassVar[str] = "outputs"

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("stages are at least one of cnn, transformer, gat, fc; got none")
        if self.nodes < 0:
            raise ValueError(f"nodes must be 0 (the electrodes) or more, got {self.nodes}")
        _need_sizes(self.width, self.heads, self.layers, self.dropout, patch_s=self.patch_s, kernel_s=self.kernel_s)


@dataclass(frozen=True)
class STGATE:
    """STGATE (Li 2023): band power, a transformer over time, graph attention over electrodes with a learnt adjacency,
    and over time. The paper's abstract gives no sizes: these are ours."""

    name: Literal["stgate"] = "stgate"
    bands_hz: tuple[float, ...] = (1.0, 4.0, 8.0, 14.0, 31.0, 50.0)
    """Edges of the bands; by default delta, theta, alpha, beta and gamma."""
    patch_s: float = 1.0  # length of the window of a band power; a longer one has finer frequencies
    width: int = 32  # features of an electrode at a time; a multiple of 2 * heads
    heads: int = 4  # attention heads of the transformer and of the graph attention, which share the width evenly
    layers: int = 2  # blocks of the transformer
    dropout: float = 0.1  # share dropped of the attention, and of what each block adds
    checkpoint: bool = False  # recompute blocks of the transformer in the backward pass: less memory, more time
    output_kind: ClassVar[str] = "outputs"

    def __post_init__(self) -> None:
        if len(self.bands_hz) < 2 or list(self.bands_hz) != sorted(set(self.bands_hz)) or self.bands_hz[0] < 0:
            raise ValueError(
                f"bands_hz are the edges of at least one band, increasing from 0 or more: got {self.bands_hz}"
            )
        _need_sizes(self.width, self.heads, self.layers, self.dropout, patch_s=self.patch_s)


def _need_sizes(width: int, heads: int, layers: int, dropout: float, **times_s: float) -> None:
    for name, value in {"heads": heads, "layers": layers}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if width < 1 or width % (2 * heads):
        raise ValueError(f"heads share a width in even parts, but got {heads} heads for a width of {width}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
    for name, time_s in times_s.items():
        if time_s <= 0:
            raise ValueError(f"{name} must be above 0 s, got {time_s}")

"""Forward and backward of our models beside braindecode's, of the same sizes on the same windows, one thread or all.

braindecode may live in a Python of its own, which is then used for both: `--peers-python PATH`.
"""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.compare import Goal, PeerMissing, ratio, rounds, show

WINDOWS = 16


def run(quick: bool, peers_python: str = "") -> bool:
    try:
        import braindecode.models as peers
    except ImportError as error:
        if not peers_python:
            raise PeerMissing(
                f"braindecode cannot be imported ({error}): name a Python that has it, --peers-python PATH"
            ) from None
        command = [peers_python, "-m", "bench", "models", *(["--quick"] if quick else [])]
        return subprocess.run(command, cwd=Path(__file__).parent.parent, check=False).returncode == 0
    return compared(quick, peers)


def compared(quick: bool, peers: Any) -> bool:
    import torch

    from eegdecode import models
    from eegdecode.models.conformer import Conformer
    from eegdecode.models.eegnet import EEGNet
    from eegdecode.models.eegpt import EEGPT
    from eegdecode.signals import SignalSpec

    def spec(names: tuple[str, ...], sfreq: float, n_times: int) -> SignalSpec:
        return SignalSpec(names, sfreq, 4, n_times=n_times, class_values=(0, 1, 2, 3), classes=tuple("abcd"))

    names = ("Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz", "C4", "T8", "P7", "P3", "Pz", "P4", "P8")
    names += ("O1", "O2")  # type: ignore[assignment]
    e22 = tuple(f"E{index}" for index in range(22))
    pairs = {
        "EEGNet 22 x 256": (
            models.build(EEGNet(kernel=64), spec(e22, 128.0, 256)),
            peers.EEGNet(n_chans=22, n_outputs=4, n_times=256, F1=8, D=2, kernel_length=64),
            256,
        ),
        "Conformer 22 x 1000": (
            models.build(Conformer(scale="head"), spec(e22, 250.0, 1000)),
            peers.EEGConformer(n_outputs=4, n_chans=22, n_times=1000),
            1000,
        ),
        "EEGPT large 19 x 1024": (
            models.build(EEGPT(spatial_filter=0), spec(names, 256.0, 1024)),
            peers.EEGPT(
                n_outputs=4,
                n_chans=19,
                n_times=1024,
                sfreq=256,
                patch_stride=64,
                chan_proj_type="none",
                chs_info=[{"ch_name": name} for name in names],
            ),
            1024,
        ),
    }
    where = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    reached = True
    for title, (ours, theirs, n_times) in pairs.items():
        n_channels = 19 if "EEGPT" in title else 22
        n_windows = 4 if "EEGPT" in title and where.type == "cpu" else WINDOWS
        x = torch.randn(n_windows, n_times, n_channels, device=where)
        whose = torch.zeros(n_windows, dtype=torch.int64, device=where)
        ours.to(where).train()
        theirs.to(where).train()
        channels_first = x.mT.contiguous()
        methods: dict[str, Callable[[], object]] = {
            "ours": lambda ours=ours, x=x, whose=whose: step(ours, x, whose),  # type: ignore[misc]
            "braindecode": lambda theirs=theirs, x=channels_first: step(theirs, x),  # type: ignore[misc]
        }
        if where.type == "cuda":
            fast = torch.compile(ours)
            methods["ours, compiled, bf16"] = lambda fast=fast, x=x, whose=whose: half(fast, x, whose)  # type: ignore[misc]
            methods["ours, bf16"] = lambda ours=ours, x=x, whose=whose: half(ours, x, whose)  # type: ignore[misc]
        seconds = rounds(methods, 5 if quick else 15)
        sizes = {name: sum(p.numel() for p in net.parameters()) for name, net in (("ours", ours), ("theirs", theirs))}
        goals = {f"{title}, ours / braindecode": Goal(ratio(seconds, "ours", "braindecode"), 1.0)}
        reached &= show(f"{title}, forward and backward, {sizes}", seconds, "braindecode", goals)
    return reached


def step(network: Any, *given: Any) -> None:
    import torch

    network.zero_grad(set_to_none=True)
    network(*given).square().mean().backward()
    if given[0].is_cuda:
        torch.cuda.synchronize()


def half(network: Any, *given: Any) -> None:
    import torch

    with torch.autocast("cuda", torch.bfloat16):
        step(network, *given)

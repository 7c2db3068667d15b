"""The loop of a PyTorch Lightning user, for `python -m bench gpu`: around our networks, or braindecode's.

Lightning itself is not needed: this does what its Trainer does with `gradient_clip_val=1` and `self.log("loss", loss,
prog_bar=True)`, and what its guide advises for loaders: workers that stay, pinned memory. braindecode may live in a
Python of its own, which then runs this file; it needs torch besides, and nothing of ours.
"""

import json
import sys
from collections.abc import Callable, Iterator

import torch
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

N_BATCHES = 16
"""Batches of an epoch."""


def loop(
    parameters: list[torch.nn.Parameter],
    loss_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    y: torch.Tensor,
    batch: int,
    device: torch.device,
    n_workers: int,
) -> Callable[[], None]:
    """Return what does a step on windows x and targets y, which lie in the memory of the host."""
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.01)
    loader: DataLoader = DataLoader(
        TensorDataset(x, y), batch, shuffle=True, drop_last=True, num_workers=n_workers, pin_memory=True,
        persistent_workers=n_workers > 0,
    )  # fmt: skip

    def batches() -> Iterator[list[torch.Tensor]]:
        while True:
            yield from loader

    upcoming = batches()

    def step() -> None:
        signal, target = (column.to(device, non_blocking=True) for column in next(upcoming))
        optimizer.zero_grad()
        loss = loss_of(signal, target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        loss.item()  # for the progress bar

    return step


def braindecode(
    name: str, shape: tuple[int, int], batch: int, device: torch.device, n_workers: int
) -> Callable[[], None]:
    """Return a step of the same loop with braindecode's network of that name for [channel, sample], in the size of
    ours."""
    from braindecode import models

    n_chans, n_times = shape
    both = {"n_chans": n_chans, "n_outputs": 2, "n_times": n_times}
    channels = [{"ch_name": channel} for channel in EEGPT_CHANNELS[:n_chans]]
    networks: dict[str, Callable[[], torch.nn.Module]] = {
        "EEGNet": lambda: models.EEGNet(**both, F1=8, D=2, kernel_length=64),
        "Conformer": lambda: models.EEGConformer(**both),
        "EEGPT": lambda: models.EEGPT(**both, sfreq=256, patch_stride=64, chan_proj_type="none", chs_info=channels),
    }
    torch.manual_seed(0)
    network = networks[name]().to(device).train()
    x, y = torch.randn(N_BATCHES * batch, n_chans, n_times), torch.arange(N_BATCHES * batch) % 2
    return loop(
        list(network.parameters()), lambda x, y: functional.cross_entropy(network(x), y), x, y, batch, device, n_workers
    )


EEGPT_CHANNELS = (
    "Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz", "C4", "T8", "P7", "P3", "Pz", "P4", "P8", "O1", "O2",
)  # fmt: skip


def main() -> None:
    """Say what there is, then do so many steps for each line."""
    told = json.loads(sys.argv[1])
    device = torch.device(told["device"])
    step = braindecode(told["name"], tuple(told["shape"]), told["batch"], device, told["n_workers"])
    print(json.dumps(["braindecode"]), flush=True)
    for _ in sys.stdin:
        for _ in range(told["n"]):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        print("done", flush=True)


if __name__ == "__main__":
    main()

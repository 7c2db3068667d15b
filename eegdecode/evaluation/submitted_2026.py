"""The entry point of the neural-interfaces competition of 2026 (EEG and EMG). The stage `submission` copies it into its
zip as submission.py.

    Solver().load_model(meta).predict(X)      X: (B, channel, time) as the judge gives it

The judge runs it by benchopt, in its own process, with torch; of our code it has only eegdecode.zip next to it.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from benchmark_utils.base_solver import CompetSolver
from torch import nn


class Solver(CompetSolver):  # type: ignore[misc]
    """What the judge looks for, by this name."""

    name = "eegdecode"

    def load_model(self, meta: "dict[str, Any]") -> "Model":
        folder = Path(meta["submission_dir"])
        code = str(folder / "eegdecode.zip")
        if code not in sys.path:
            sys.path.insert(0, code)
        # Besides tensors it holds the settings of the models, as dataclasses of the code in eegdecode.zip
        saved = torch.load(folder / "weights.pt", map_location="cpu", weights_only=False)
        return Model(saved, places(saved, meta)).to(meta["device"]).eval()


def places(saved: "dict[str, Any]", meta: "dict[str, Any]") -> "list[int]":
    """Where the judge has the channels that the networks read; refuses signals of another kind."""
    if meta["sfreq"] != saved["sfreq"]:
        raise ValueError(f"these models read {saved['sfreq']:g} Hz, but the judge gives {meta['sfreq']:g} Hz")
    if meta["n_times"] != saved["n_given"]:
        raise ValueError(f"these models read {saved['n_given']} samples, but the judge gives {meta['n_times']}")
    for name in ("n_classes", "n_outputs", "n_joints"):
        if name in meta and meta[name] != saved["n_outputs"]:
            raise ValueError(f"these models have {saved['n_outputs']} outputs, but the judge's {name} is {meta[name]}")
    wanted, names = saved["channels"], meta.get("ch_names")
    if names is None:  # unnamed: they can only be the same ones in the same order
        if meta["n_chans"] != len(wanted):
            raise ValueError(f"these models read {len(wanted)} channels, but the judge gives {meta['n_chans']}")
        return list(range(len(wanted)))
    there = {str(name).lower(): place for place, name in enumerate(names)}
    if missing := [name for name in wanted if name.lower() not in there]:
        raise ValueError(f"these models read {' '.join(missing)}, but the judge has only {' '.join(map(str, names))}")
    return [there[name.lower()] for name in wanted]


class Model(nn.Module):
    """The mean of the networks, for windows as the judge gives them.

    Parameters
    ----------
    saved
        `kind`: what is decoded. `channels`: of the networks. `sfreq`: in Hz. `n_given`, `n_times`: samples of a window,
        and of the networks; a window that is shorter repeats its start. `clip`: larger values are clipped to it.
        `baseline`: so many samples of its start have mean 0, unless it is 0. `order`: of classes, the place of each in
        the judge's order. `models`: settings, spec and parameters of each network; of outputs that are standardised the
        spec knows the units.
    where
        Of each channel of the networks, the place among the judge's.
    """

    where: torch.Tensor

    def __init__(self, saved: "dict[str, Any]", where: "list[int]") -> None:
        super().__init__()
        from eegdecode import models

        self.register_buffer("where", torch.tensor(where))
        self.kind, self.clip, self.order = saved["kind"], saved["clip"], saved["order"]
        self.n_given, self.n_times, self.baseline = saved["n_given"], saved["n_times"], saved["baseline"]
        self.units = [(spec.target_std or (1.0,), spec.target_mean or (0.0,)) for _, spec, _ in saved["models"]]
        self.networks = nn.ModuleList(models.build(settings, spec) for settings, spec, _ in saved["models"])
        for network, (_, _, parameters) in zip(self.networks, saved["models"]):
            network.load_state_dict(parameters)

    def forward(self, X: torch.Tensor) -> torch.Tensor:  # noqa: N803  the judge's own name
        x = X.float()[:, self.where].mT.clamp(-self.clip, self.clip)
        x = torch.cat([x, x[:, : self.n_times - self.n_given]], dim=1)
        if self.baseline:
            x = x - x[:, : self.baseline].mean(dim=1, keepdim=True)
        subject = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        outputs = [
            network(x, subject).float() * x.new_tensor(std) + x.new_tensor(mean)
            for network, (std, mean) in zip(self.networks, self.units)
        ]
        if self.kind == "classes":
            outputs = [output.softmax(dim=-1) for output in outputs]
        return torch.stack(outputs).mean(dim=0)

    def predict(self, X: torch.Tensor) -> torch.Tensor:  # noqa: N803
        """(B,) classes or values, (B, feature) of a retrieval, or (B, feature, time) of a time course."""
        self.eval()
        with torch.no_grad():
            decoded = self(X)
        if self.kind == "classes":
            return torch.tensor(self.order, device=decoded.device)[decoded.argmax(dim=-1)]
        if self.kind == "values":
            return decoded[:, 0]
        return decoded.mT if self.kind == "sequence" else decoded

"""`eegdecode.load_model("train-k3f9")`: a trained network as a module of torch, with its preprocessing recipe."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from eegdecode import models, objectives
from eegdecode.decoder import recipe as recipes
from eegdecode.decoder.recipe import PreprocessingRecipe
from eegdecode.evaluation.decode import predict
from eegdecode.evaluation.decode.predictions import Kind
from eegdecode.exchange import runs as of_runs
from eegdecode.objectives import Batch
from eegdecode.signals import SignalSpec
from eegdecode.training import model_file
from eegdecode.training.model_file import Trained
from hpc.errors import did_you_mean


def load_model(run: str | Path, runs: str | Path = "runs") -> "Decoder":
    """Load a trained model, ready to decode; no code of its file is run.

    Parameters
    ----------
    run
        A finished run of train or soup by its name, its folder, a copy of its `out`, or a model.pt alone.
    runs
        The folder that holds the run folders.
    """
    path = of_runs.find_model(run, runs)
    trained = model_file.load(path.parent, path.name)
    return Decoder(trained, recipes.of(trained))


class Decoder(nn.Module):
    """A trained network, and the signal that it reads.

    `model(x)` decodes windows [window, channel, time] that are preprocessed as `model.recipe` says; `eegdecode.predict`
    does that to raw ones. It returns [window, class] of logits, or [window, output] or [window, step, output] in the
    units of the target.

    Parameters
    ----------
    network
        The network of `eegdecode.models`, which reads [window, time, channel].
    recipe
        Channels, rate, unit and windows of what it reads, and the steps that make it of a raw recording.
    spec
        The shapes of its input and output.
    name, target, kind
        Of the run that trained it; what is decoded; whether that is classes, values, retrieval or a sequence.
    model_name, output_kind
        The name of the model, and what it gives: outputs, or noise if it generates.
    """

    def __init__(self, trained: Trained, recipe: PreprocessingRecipe) -> None:
        super().__init__()
        self.network = trained.network()
        self.recipe = recipe
        self.spec: SignalSpec = trained.spec
        self.name, self.target = trained.run.name, trained.target
        self.kind: Kind = predict.kind_of(trained)
        self._objective = trained.objective
        self.model_name, self.output_kind = trained.model.name, trained.model.output_kind
        self.has_layers_of_subjects = _has_layers_of_subjects(trained)
        self.eval()

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the outputs; empty if these are none."""
        return self.spec.classes if self.kind == "classes" else ()

    def forward(
        self, x: torch.Tensor, subject: torch.Tensor | None = None, keys: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Decode windows.

        Parameters
        ----------
        x
            [window, channel, time].
        subject
            [window], indices into `spec.subjects`; only for networks with layers of their own for each subject.
        keys
            [window] of int64, from which a diffusion model draws its noise; by default the numbers of the windows.
        """
        if subject is None:
            subject = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        n_steps = self.spec.n_steps(x.shape[2]) if self.spec.is_sequence else 1
        shape = x.new_zeros(len(x), n_steps, self.spec.n_outputs)  # a diffusion model asks for no more of the target
        keys = torch.arange(len(x), device=x.device) if keys is None else keys
        return objectives.decode(self._objective, self.network, Batch(x.mT, shape, subject, keys), self.spec)

    def index_of(self, subject: str) -> int:
        """The index of a subject of the training, for networks that have layers of their own for each."""
        known = self.spec.subjects
        if subject in known:
            return known.index(subject)
        if not self.has_layers_of_subjects:
            return 0
        what = f"{subject!r} is no subject of its training" if subject else "say whose signal it is, as subject='…'"
        raise ValueError(
            f"{self.name} has layers of its own for each subject, so {what}.{did_you_mean(subject, known)}"
        )

    def extra_repr(self) -> str:
        return f"{self.name} decodes {self.target}: {self.recipe}"


def _has_layers_of_subjects(trained: Trained) -> bool:
    """Whether parameters of the network go by the number of subjects."""

    def shapes(spec: SignalSpec) -> dict[str, Any]:
        with torch.device("meta"):
            return {name: value.shape for name, value in models.build(trained.model, spec).state_dict().items()}

    more = replace(trained.spec, subjects=(*trained.spec.subjects, "one more"))
    return shapes(trained.spec) != shapes(more)

"""A config for a study: all sections of a pipeline, a guess a line."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eegdecode.data.config import Matlab, Table
from eegdecode.evaluation.config import Evaluate
from eegdecode.preprocessing.config import Preprocess
from eegdecode.proposal import decoding, splitting, steps
from eegdecode.proposal.decoding import Decoding
from eegdecode.proposal.seen import Sight
from eegdecode.proposal.write import Guess, Section, values
from eegdecode.training.config import Train
from hpc import config
from hpc.errors import first_of
from hpc.media import many

STEPS, VALIDATE_EVERY, BATCH = 300, 30, 32


@dataclass(frozen=True)
class Proposal:
    """`sight`: what was seen, without the recordings in which nothing can be decoded."""

    sections: dict[str, Section]
    sight: Sight
    all_folds: str = ""
    """Of a split whose single fold tests too few recordings or people to decide anything: its folds, as 0..4."""

    @property
    def values(self) -> dict[str, dict[str, Any]]:
        return values(self.sections)


def propose(sight: Sight, study: str) -> Proposal:
    """Return the config for what was seen; `study` is the folder as the config names it."""
    what = decoding.choose(sight)
    sight = sight.leaving_out(what.without, "it has no trial of these classes, and is left out")
    split = splitting.choose(sight, what)
    sections: dict[str, Section] = {
        "preprocess": _preprocess(sight, what, study),
        "train": _train(sight, what, split),
        "evaluate": {
            "model": Guess(
                "train",
                "Next to chance and to linear decoders, which are computed by themselves: if one of them is as good, "
                "the network has found nothing more.",
            )
        },
    }
    is_enough = splitting.decides(sight, what, split.value)
    proposal = Proposal(sections, sight, "" if is_enough else f"0..{split.value['folds'] - 1}")
    _check(proposal.values)
    return proposal


def _preprocess(sight: Sight, what: Decoding, study: str) -> Section:
    section: dict[str, Guess | Sequence[Guess]] = {"study": Guess(study)}
    folder = sight.folder
    if folder.files:
        section["files"] = Guess(folder.files, _names(sight))
    if sight.failed:
        why = "; ".join(f"{name}: {reason}" for name, reason in sight.failed.items())
        section["exclude"] = Guess(sorted(sight.failed), f"These cannot be used. {why}")
    opened = len(sight.seen) + len(sight.failed)
    if opened < len(folder.entries):
        why = (
            f"{opened} of {len(folder.entries)} recordings were opened; of the others, those that are "
            "damaged are left out and named in survey.html."
        )
        section["skip_failed"] = Guess(True, why, ("false: they end the run",))
    for name, given, default in (("matlab", sight.reading.matlab, Matlab()), ("table", sight.reading.table, Table())):
        if changed := {key: value for key, value in vars(given).items() if value != getattr(default, key)}:
            section[name] = Guess(changed, "As given on the line.")
    if what.events.value is not None:
        section["events"] = what.events
    section["steps"] = steps.choose(sight, what)
    section["targets"] = [what.target]
    return section


def _names(sight: Sight) -> str:
    names = sight.folder.names
    if names is None:
        return "As given on the line."
    fields = [f"{name}: {names.examples(name)}, {names.roles[name]}" for name in names.fields]
    left = f" Left out, as their names have another form: {first_of(names.left_out)}." if names.left_out else ""
    return f"{many(len(names.paths), 'file')} are called so. {'; '.join(fields)}.{left}"


def _train(sight: Sight, what: Decoding, split: Guess) -> Section:
    if what.is_course:
        return _train_course(what, split)
    section: dict[str, Guess] = {
        "data": Guess("preprocess"),
        "target": Guess(what.name),
        "model": Guess(
            {"name": "eegnet"},
            "Small, and made for windows of a few seconds.",
            ("shallow or conformer; hpc settings train.model lists all",),
        ),
        "objective": Guess({"name": "classification"}, f"{what.n_classes} classes."),
        "split": split,
    }
    windows: dict[str, Any] = {
        "name": "epochs",
        "tmin_s": 0.0,
        "tmax_s": what.window_s,
        "batch": BATCH,
        "balance": what.name,
    }
    why = f"One window a trial, {what.window_s:g} s from its start; in training, each class is drawn equally often."
    if what.overlap:
        windows["overlap"] = True
    section["windows"] = Guess(windows, why)
    optim: dict[str, Any] = {"steps": STEPS, "lr": 5e-3, "validate_every": VALIDATE_EVERY, "patience": 3}
    optim |= {"average": {"name": "ema", "decay": 0.9}}
    section["optim"] = Guess(
        optim,
        "A first look, in a minute or so on a CPU; it ends when three validations bring nothing.",
        ("ten times the steps, once the rest is right",),
    )
    return section


def _train_course(what: Decoding, split: Guess) -> Section:
    """The training for a course in time."""
    windows = {"name": "random", "length_s": what.window_s, "batch": BATCH}
    optim = {"steps": STEPS, "lr": 6e-3, "weight_decay": 3.0, "validate_every": VALIDATE_EVERY, "patience": 3}
    return {
        "data": Guess("preprocess"),
        "target": Guess(what.name),
        "model": Guess(
            {"name": "bilstm", "hidden": 16, "layers": 1},
            "Small, and gives a value for each sample.",
            ("tcn or transformer, which are causal; hpc settings train.model lists all",),
        ),
        "objective": Guess({"name": "regression"}, "Numbers over time."),
        "split": split,
        "windows": Guess(windows, f"{what.window_s:g} s at a random place of each trial; none is shorter."),
        "optim": Guess(optim, "A first look, in some minutes on a CPU; with few stimuli, strong weight decay."),
    }


def _check(sections: dict[str, dict[str, Any]]) -> None:
    """A config that hpc itself refuses is our mistake, and is not written."""
    config.build(Preprocess, sections["preprocess"], "preprocess")
    config.build(Train, sections["train"], "train")
    config.build(Evaluate, sections["evaluate"], "evaluate")

"""The sections that every report has: training, data and leakage, reproducibility."""

import logging
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eegdecode import plots
from eegdecode.data.config import Split
from eegdecode.evaluation.decode.predictions import Decoded
from eegdecode.page import say
from eegdecode.plots import Chart, Line
from eegdecode.training.config import is_lower_better
from eegdecode.training.model_file import Trained
from eegdecode.training.monitor import doctor
from hpc import config, media
from hpc.errors import first_of
from hpc.media import many
from hpc.runs import products, records
from hpc.runs.rundir import RunDir

log = logging.getLogger(__name__)

MOST_NAMED = 10  # classes
SMOOTHED = 40  # points of the smoothed training curve


def made_up(runs: list[RunDir]) -> bool:
    return any(records.plan(run).get("stage") == "synthesize" for run in runs)


@dataclass(frozen=True)
class TrainingCurve:
    """`chosen`: which step the model is of, and why; empty without metrics.jsonl."""

    run: str
    chosen: str = ""
    chart: Chart | None = None
    remarks: list[str] = field(default_factory=list)
    """What is wrong with it."""


def learning(trained: Trained) -> TrainingCurve:
    history = [line for line in records.metrics(trained.run) if "loss" in line]
    if not history:
        return TrainingCurve(trained.run.name)
    steps, losses = (np.array([line[name] for line in history], float) for name in ("step", "loss"))
    checks = [(line["step"], line["val_loss"]) for line in history if "val_loss" in line]
    parts = np.array_split(np.arange(len(steps)), min(SMOOTHED, len(steps)))
    smooth = Line([steps[part].mean() for part in parts], [losses[part].mean() for part in parts], "heard")
    validation = Line([step for step, _ in checks], [loss for _, loss in checks], "decoded")
    by = trained.train().optim.choose_by
    value = say(trained.validation[by])
    most = "lowest" if is_lower_better(by) else "highest"
    chosen = f"step {trained.step} of {int(steps[-1])}, where the validation {by} was {most}, {value}"
    label = f"Training and validation loss over steps. Selected: {chosen}."
    chart = plots.lines([Line(steps, losses, "faint"), smooth, validation], label, "steps", mark=trained.step)
    return TrainingCurve(trained.run.name, chosen, chart, doctor.remarks(history, len(trained.spec.class_values)))


def data(trained: Trained, decoded: Decoded) -> list[str]:
    """Sentences on the data."""
    spec = trained.spec
    lasts = f"has {many(len(decoded.trials), 'window')}"
    if decoded.kind == "sequence":
        minutes = sum(len(trial.target) for trial in decoded.trials) / decoded.sfreq / 60
        lasts = f"lasts {minutes:.1f} minutes in {many(len(decoded.trials), 'trial')}"
    target = many(spec.n_outputs, "feature")
    if decoded.kind == "classes":
        target = f"{len(decoded.classes)} classes ({first_of(decoded.classes, MOST_NAMED)})"
    return [
        f"{many(spec.n_channels, 'channel')} at {spec.sfreq:g} Hz ({', '.join(spec.channels)}); the target "
        f"“{trained.target}” has {target}.",
        f"The test set {lasts}.",
        *decoded.audit,
    ]


@dataclass(frozen=True)
class Audited:
    """The findings of an audit run of the same data; or how to audit them, as on the command line."""

    run: str
    command: str
    every: list[dict[str, str]] = field(default_factory=list)
    is_of_other_split: bool = False

    @property
    def findings(self) -> list[str]:
        return [f"{each['what']}, {each['where']}: {each['sentence']}" for each in self.every]


def audited(trained: Trained) -> Audited:
    """The last audit of the same data among these runs, if there is one."""
    audits = [RunDir(path.parent.parent) for path in trained.run.path.parent.glob("audit-*/out/audit.json")]
    same = [run for run in audits if sorted(records.plan(run).get("inputs", {}).values()) == sorted(trained.data)]
    same = [run for run in same if _findings(run.out / "audit.json") is not None]
    if not same:
        data, command = f"data=[{','.join(trained.data)}]", ["python", "-m", "hpc.launch", "audit"]
        return Audited("", media.shell([*command, data, f"target={trained.target}", *_split(trained)]))
    last = max(same, key=lambda run: (run.out / "audit.json").stat().st_mtime)
    looked = config.load([last.config])["split"] if last.config.is_file() else {}
    is_other = looked and config.build(Split, looked, "split") != config.build(Split, trained.config["split"], "split")
    findings = _findings(last.out / "audit.json") or []
    return Audited(last.name, media.shell(_split(trained)), findings, bool(is_other))


def _findings(path: Path) -> list[dict[str, str]] | None:
    """The findings of an audit; None if it cannot be believed: the page does without it."""
    try:
        return [{name: str(each[name]) for name in ("what", "where", "sentence")} for each in products.read(path)]
    except (ValueError, TypeError, KeyError) as error:
        log.warning("%s", error if isinstance(error, ValueError) else f"{path} is not the list of an audit's findings")
        return None


def _split(trained: Trained) -> list[str]:
    """The settings of the training's split, as on the command line."""
    usual = asdict(Split())
    differ = {name: value for name, value in asdict(trained.split).items() if value != usual[name]}
    return [word.replace("'", "").replace(", ", ",") for word in _flat("split", differ)]


def lineage(run: RunDir, above: tuple[Path, ...] = ()) -> list[RunDir]:
    """The runs that a run builds on, first to last, and itself; as far back as their folders are siblings. `above`: the
    runs that have led to it, as a damaged plan.json may lead back."""
    inputs, above = records.plan(run).get("inputs", {}).values(), (*above, run.path)
    folders = [run.path.parent / ref for ref in inputs if "/" not in ref]
    before = [ancestor for path in folders if path not in above for ancestor in lineage(RunDir(path), above)]
    return [*before, run]


def lineages(runs: Iterable[RunDir]) -> list[RunDir]:
    """The lineages of several runs, common runs once."""
    return list({each.path: each for run in runs for each in lineage(run)}.values())


def capsule(runs: list[RunDir], several: Sequence[Trained]) -> dict[str, Any]:
    """What is needed to reproduce the result, and what it cost: runs, code, configs, versions."""
    sizes = [f"{each.config['model']['name']} with {each.n_parameters:,} parameters" for each in several]
    return {
        "rows": [[run.name, _code(run), str(_attempts(run)), *_cost(run)] for run in runs],
        "facts": f"Model{'' if len(sizes) == 1 else 's'} {', '.join(sizes)}. Python {platform.python_version()}, "
        f"torch {torch.__version__}, numpy {np.__version__}, on {platform.machine()}. "
        f"Written on {time.strftime('%d %B %Y')}.",
        "settings": [(each.run.name, "\n".join(_flat("train", each.config))) for each in several],
    }


def _cost(run: RunDir) -> tuple[str, str]:
    """Hours and GPU-hours of all attempts that have ended, so not of the one that writes this report."""
    ended = [line for line in records.attempts(run) if "ended" in line]
    if not ended:
        return "–", "–"
    resources = records.plan(run).get("resources", {})
    gpus_a_rank = resources.get("gpus_per_node", 0) / resources.get("ranks_per_node", 1)
    lasted = [(line["ended"] - line["started"]) / 3600 for line in ended]
    gpu_hours = sum(hours * line.get("ranks", 1) * gpus_a_rank for hours, line in zip(lasted, ended, strict=True))
    return f"{sum(lasted):.2f}", f"{gpu_hours:.2f}"


def _code(run: RunDir) -> str:
    """The code of a run, and the version of meaning of its results."""
    plan = records.plan(run)
    commits = []
    for code in plan.get("code", []):
        changed = f" + {many(len(code['modified']), 'changed file')}" if code["modified"] else ""
        commits.append(f"{Path(code['root']).name} {code['commit'][:10] or code.get('version') or 'no git'}{changed}")
    meaning = f"; meaning {records.meaning(run)} of {plan['stage']}" if "stage" in plan else ""
    return (", ".join(commits) or "not known") + meaning


def _attempts(run: RunDir) -> int:
    # An attempt is recorded when it ends, and the one that writes this report has not ended
    return len(records.attempts(run)) + (not run.result.exists())


def _flat(at: str, value: Any) -> Iterable[str]:
    """A config as command-line settings."""
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from _flat(f"{at}.{key}", below)
    else:
        yield f"{at}={list(value) if isinstance(value, tuple) else value}"

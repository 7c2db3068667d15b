"""The sections that every report has: training, data and leakage, reproducibility."""

import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eegdecode import plots
from eegdecode.data.config import Split
from eegdecode.evaluation.decode.predictions import Decoded
from eegdecode.page import table
from eegdecode.plots import Line
from eegdecode.training.model_file import Trained
from hpc import config
from hpc.errors import first_of
from hpc.runs import records
from hpc.runs.rundir import RunDir, read_json

MOST_NAMED = 10  # classes
SMOOTHED = 40  # points of the smoothed training curve


def made_up(runs: list[RunDir]) -> str:
    if not any(records.plan(run).get("stage") == "synthesize" for run in runs):
        return ""
    return (
        '\n<p class="notice">The recordings are synthetic, with a planted effect: '
        "the results show that the tools work, and say nothing about brains.</p>"
    )


def learning(several: Sequence[Trained]) -> str:
    """The training curves of each model."""
    if len(several) == 1:
        return _learning(several[0])
    return "\n".join(f"<h3>{escape(each.run.name)}</h3>\n{_learning(each)}" for each in several)


def _learning(trained: Trained) -> str:
    history = [line for line in records.metrics(trained.run) if "loss" in line]
    if not history:
        return "<p>The run that trained this model has no metrics.jsonl.</p>"
    steps, losses = (np.array([line[name] for line in history], float) for name in ("step", "loss"))
    checks = [(line["step"], line["val_loss"]) for line in history if "val_loss" in line]
    parts = np.array_split(np.arange(len(steps)), min(SMOOTHED, len(steps)))
    smooth = Line([steps[part].mean() for part in parts], [losses[part].mean() for part in parts], "heard")
    validation = Line([step for step, _ in checks], [loss for _, loss in checks], "decoded")
    lowest = say(trained.validation["loss"])
    chosen = f"step {trained.step} of {int(steps[-1])}, where the validation loss was lowest, {lowest}"
    drawn = [Line(steps, losses, "faint"), smooth, validation]
    label = f"Training and validation loss over steps. Selected: {chosen}."
    return (
        '<p class="key"><span><i class="line faint"></i>training, each step</span><span><i class="line heard"></i>'
        'training, smoothed</span><span><i class="line decoded"></i>validation</span></p>\n'
        f"<figure>{plots.lines(drawn, label, 'steps', mark=trained.step)}<figcaption>Loss. The dashed line is the "
        f"selected model: {chosen}.</figcaption></figure>"
    )


def data(trained: Trained, decoded: Decoded) -> str:
    spec = trained.spec
    lasts = f"has {many(len(decoded.trials), 'window')}"
    if decoded.kind == "sequence":
        minutes = sum(len(trial.target) for trial in decoded.trials) / decoded.sfreq / 60
        lasts = f"lasts {minutes:.1f} minutes in {many(len(decoded.trials), 'trial')}"
    target = many(spec.n_outputs, "feature")
    if decoded.kind == "classes":
        target = f"{len(decoded.classes)} classes ({first_of(decoded.classes, MOST_NAMED)})"
    sentences = [
        f"{many(spec.n_channels, 'channel')} at {spec.sfreq:g} Hz ({', '.join(spec.channels)}); the target "
        f"“{trained.target}” has {target}.",
        f"The test set {lasts}.",
        *decoded.audit,
    ]
    return "<ul>" + "\n".join(f"<li>{escape(sentence)}</li>" for sentence in sentences) + "</ul>\n" + _audited(trained)


def _audited(trained: Trained) -> str:
    """The findings of an audit run of the same data, if there is one among these runs."""
    audits = [RunDir(path.parent.parent) for path in trained.run.path.parent.glob("audit-*/out/audit.json")]
    same = [run for run in audits if sorted(records.plan(run).get("inputs", {}).values()) == sorted(trained.data)]
    if same:
        last = max(same, key=lambda run: (run.out / "audit.json").stat().st_mtime)
        findings, name = read_json(last.out / "audit.json") or [], escape(last.name)
        looked = config.load([last.config])["split"] if last.config.is_file() else {}
        other = (
            f"<p>It was of another split than this training's, so it does not show leaks of this one: audit with "
            f"<code>{escape(' '.join(_split(trained)))}</code></p>"
            if looked and config.build(Split, looked, "split") != config.build(Split, trained.config["split"], "split")
            else ""
        )
        if not findings:
            return f"<p>The audit <code>{name}</code> of these data has no findings.</p>{other}"
        sentences = (f"{each['what']}, {each['where']}: {each['sentence']}" for each in findings)
        items = "\n".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
        return f"<p>Findings of the audit <code>{name}</code> of these data:</p>\n<ul>{items}</ul>{other}"
    data = ",".join(trained.data)
    return (
        "<p>These data were not audited for copies, leaks, units, sounds among the channels and confounds: "
        f"<code>python -m hpc.launch audit data=[{escape(data)}] target={escape(trained.target)} "
        f"{escape(' '.join(_split(trained)))}</code></p>"
    )


def _split(trained: Trained) -> list[str]:
    """The settings of the training's split, as on the command line."""
    usual = asdict(Split())
    differ = {name: value for name, value in asdict(trained.split).items() if value != usual[name]}
    return [word.replace("'", "").replace(", ", ",") for word in _flat("split", differ)]


def lineage(run: RunDir) -> list[RunDir]:
    """The runs that a run builds on, first to last, and itself; as far back as their folders are siblings."""
    inputs = records.plan(run).get("inputs", {}).values()
    before = [ancestor for ref in inputs if "/" not in ref for ancestor in lineage(RunDir(run.path.parent / ref))]
    return [*before, run]


def lineages(runs: Iterable[RunDir]) -> list[RunDir]:
    """The lineages of several runs, common runs once."""
    return list({each.path: each for run in runs for each in lineage(run)}.values())


def capsule(runs: list[RunDir], several: Sequence[Trained]) -> str:
    """What is needed to reproduce the result, and what it cost: runs, code, configs, versions."""
    rows = [[run.name, _code(run), str(_attempts(run)), *_cost(run)] for run in runs]
    sizes = [f"{each.config['model']['name']} with {each.n_parameters:,} parameters" for each in several]
    facts = (
        f"Model{'' if len(sizes) == 1 else 's'} {', '.join(sizes)}. Python {platform.python_version()}, "
        f"torch {torch.__version__}, numpy {np.__version__}, on {platform.machine()}. "
        f"Written on {time.strftime('%d %B %Y')}."
    )
    settings = "\n".join(_settings(each, each.run.name if len(several) > 1 else "") for each in several)
    return (
        table(["Run", "Code", "Attempts", "Hours", "GPU hours"], rows, "Runs") + f"\n<p>{escape(facts)}</p>\n{settings}"
    )


def _settings(trained: Trained, of: str) -> str:
    settings = "\n".join(_flat("train", trained.config))
    of_run = f", {escape(of)}" if of else ""
    return f"<details><summary>All settings of training{of_run}</summary><pre>{escape(settings)}</pre></details>"


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
    commits = []
    for code in records.plan(run).get("code", []):
        changed = f" + {many(len(code['modified']), 'changed file')}" if code["modified"] else ""
        commits.append(f"{Path(code['root']).name} {code['commit'][:10]}{changed}")
    return ", ".join(commits) or "not known"


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


def many(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def say(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")

"""What every report has: how training went, what the data mean, how it all came about."""

import platform
import time
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eegdecode import plots
from eegdecode.evaluation.predictions import Decoded
from eegdecode.plots import Line
from eegdecode.training.state import Trained
from hpc.rundir import RunDir, read_json, read_lines

SMOOTHED = 40  # the curve of training shows the mean of so many parts of the run


def made_up(runs: list[RunDir]) -> str:
    if not any((read_json(run.plan) or {}).get("stage") == "synthesize" for run in runs):
        return ""
    return (
        '\n<p class="notice">The recordings are made up, with a planted effect: '
        "the figures show that the tools work, and say nothing of brains.</p>"
    )


def learning(trained: Trained) -> str:
    history = read_lines(trained.run.metrics)
    if not history:
        return "<p>The run that trained this model left no metrics beside it.</p>"
    steps, losses = (np.array([line[name] for line in history], float) for name in ("step", "loss"))
    checks = [(line["step"], line["val_loss"]) for line in history if "val_loss" in line]
    parts = np.array_split(np.arange(len(steps)), min(SMOOTHED, len(steps)))
    smooth = Line([steps[part].mean() for part in parts], [losses[part].mean() for part in parts], "heard")
    validation = Line([step for step, _ in checks], [loss for _, loss in checks], "decoded")
    lowest = say(trained.validation["loss"])
    chosen = f"step {trained.step} of {int(steps[-1])}, where the validation loss was lowest, {lowest}"
    drawn = [Line(steps, losses, "faint"), smooth, validation]
    label = f"Loss over steps, in training and in validation. Kept: {chosen}."
    return (
        '<p class="key"><span><i class="line faint"></i>training, each step</span><span><i class="line heard"></i>'
        'training, smoothed</span><span><i class="line decoded"></i>validation</span></p>\n'
        f"<figure>{plots.lines(drawn, label, 'steps', mark=trained.step)}<figcaption>Loss. The dashed line is the "
        f"model that was kept: {chosen}.</figcaption></figure>"
    )


def data(trained: Trained, decoded: Decoded) -> str:
    spec = trained.spec
    lasts = f"has {many(len(decoded.trials), 'window')}"
    if decoded.sfreq:
        minutes = sum(len(trial.target) for trial in decoded.trials) / decoded.sfreq / 60
        lasts = f"lasts {minutes:.1f} minutes in {many(len(decoded.trials), 'trial')}"
    said = [
        f"{many(spec.n_channels, 'channel')} at {spec.sfreq:g} Hz ({', '.join(spec.channels)}); the target "
        f"“{trained.target}” has {many(spec.n_outputs, 'feature')}.",
        f"The test part {lasts}.",
        *decoded.audit,
    ]
    return "<ul>" + "\n".join(f"<li>{escape(sentence)}</li>" for sentence in said) + "</ul>"


def lineage(run: RunDir) -> list[RunDir]:
    """The runs that a run builds on, first to last, and itself; as far back as their folders stand side by side."""
    inputs = (read_json(run.plan) or {}).get("inputs", {}).values()
    before = [found for ref in inputs if "/" not in ref for found in lineage(RunDir(run.path.parent / ref))]
    return [*before, run]


def capsule(runs: list[RunDir], trained: Trained) -> str:
    """What one needs to make it again: runs, code, config, versions."""
    rows = "\n".join(
        f'<tr><th scope="row"><code>{escape(run.name)}</code></th><td>{escape(_code(run))}</td>'
        f"<td>{_attempts(run)}</td></tr>"
        for run in runs
    )
    model = trained.config["model"]["name"]
    facts = (
        f"Model {model} with {trained.n_parameters:,} parameters. Python {platform.python_version()}, "
        f"torch {torch.__version__}, numpy {np.__version__}, on {platform.machine()}. "
        f"Written on {time.strftime('%d %B %Y')}."
    )
    settings = "\n".join(_flat("train", trained.config))
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Runs"><table><thead><tr><th scope="col">Run</th>'
        '<th scope="col">Code</th><th scope="col">Attempts</th></tr></thead>\n'
        f"<tbody>{rows}</tbody></table></div>\n<p>{escape(facts)}</p>\n"
        f"<details><summary>All settings of training</summary><pre>{escape(settings)}</pre></details>"
    )


def _code(run: RunDir) -> str:
    said = []
    for code in (read_json(run.plan) or {}).get("code", []):
        changed = f" + {many(len(code['modified']), 'changed file')}" if code["modified"] else ""
        said.append(f"{Path(code['root']).name} {code['commit'][:10]}{changed}")
    return ", ".join(said) or "not known"


def _attempts(run: RunDir) -> int:
    # One is written down when it ends, and the one that writes this report has not
    return len(read_lines(run.attempts)) + (not run.result.exists())


def _flat(at: str, value: Any) -> Iterable[str]:
    """A config as the words that set it."""
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from _flat(f"{at}.{key}", below)
    else:
        yield f"{at}={list(value) if isinstance(value, tuple) else value}"


def many(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def say(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")

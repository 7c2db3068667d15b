"""How well speech is followed in real EEG, beside a ridge backward model: `python -m bench speech PATH`.

PATH is Etard and Kegler's listeners of an audiobook as they published them (EEGdata/, envelopes/); without it nothing
is compared. Decoded by configs/recipes/speech-eeg.yaml, three seeds together; --quick: one seed, one part left out.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.compare import Goal, judged
from eegdecode.evaluation.decode import predictions
from eegdecode.evaluation.decode.predictions import Decoded, DecodedTrial
from eegdecode.evaluation.metrics.r_of_time_courses import SHORTEST_SHIFT_S
from eegdecode.evaluation.statistics import grouping, nulls, paired

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "configs/recipes/speech-eeg.yaml"
WINDOW_S = 10
N_NULL = 200
OF_ALL = "3"  # the part that nearly everybody heard: those who heard no other are tested on it, and never train
DATA = """
preprocess:
  study: {path}
  files: "EEGdata/{{subject}}/*_{{run}}.set"
  skip_failed: true   # of most recordings the samples were never published
  exclude: {exclude}
  events: {{name: annotations, stimuli: {{storyBegin: "clean_{{run}}"}}, end: storyEnd}}
  steps:
    - {{name: pick, drop: [Sound]}}
    - {{name: resample, sfreq: 50}}
    - {{name: scale, method: standard}}
{align}  targets:
    - name: extra
      file: "envelopes/env_Fs-100-LP-12-rectified_{{stem}}.mat"
      title: envelope
      sfreq: 50
      file_sfreq: 100
"""


class Known(NamedTuple):
    """What a ridge with a penalty fixed beforehand was measured to reach, by others than us."""

    r: float
    match: float


OWN, OTHERS = "own other parts train as well", "others' other parts train"
RIDGE = {OWN: Known(0.153, 0.815), OTHERS: Known(0.117, 0.739)}
LINEAR = {OWN: "subject-specific", OTHERS: "across subjects"}


class Task(NamedTuple):
    """A part is left out; of those subjects all the rest is left out too."""

    part: str
    without: tuple[str, ...] = ()
    align: bool = True

    @property
    def name(self) -> str:
        return "-".join([self.part, *self.without, "aligned" if self.align else "plain"])


def run(quick: bool, path: str = "") -> bool:
    if not path:
        print("speech: left out, no folder was named: python -m bench speech PATH")
        return True
    heard = _heard(Path(path))
    several = sorted(subject for subject, parts in heard.items() if len(parts) > 1)
    tasks = [Task(OF_ALL)]
    if not quick:
        tested = [subject for subject in several if OF_ALL in heard[subject]]
        tasks += [Task(part) for part in sorted({part for parts in heard.values() for part in parts} - {OF_ALL})]
        tasks += [Task(OF_ALL, tuple(tested[:3])), Task(OF_ALL, tuple(tested[3:]))]
        tasks += [task._replace(align=False) for task in tasks]
    with tempfile.TemporaryDirectory(prefix="speech-") as name, ThreadPoolExecutor(2) as two:
        folder = Path(name)
        made = [_preprocessed(folder, Path(path), heard, task) for task in tasks]
        each = list(two.map(lambda task, store: _decoded(folder, task, store, quick), tasks, made))
    aligned, plain = (
        [pair for pair in zip(tasks, each, strict=True) if pair[0].align == is_so] for is_so in (True, False)
    )
    goals: dict[str, Goal] = {}
    for trained, short in ((OWN, "own"), (OTHERS, "others")):
        goals |= _compared(trained, short, _of(aligned, several, trained), _of(plain, several, trained))
    return judged(goals)


def _heard(path: Path) -> dict[str, list[str]]:
    """By subject the parts whose samples are there."""
    parts_of: dict[str, list[str]] = {}
    for samples in sorted(path.glob("EEGdata/*/*.fdt")):
        parts_of.setdefault(f"sub-{samples.parent.name}", []).append(samples.stem.split("_")[-1])
    if not parts_of:
        raise SystemExit(f"{path} has no EEGdata/*/*.fdt: name the folder that holds EEGdata and envelopes")
    return parts_of


# ----------------------------------------------------------------------------------------------------------- decoding


def _preprocessed(folder: Path, path: Path, heard: dict[str, list[str]], task: Task) -> str:
    exclude = [f"{subject}_run-{part}" for subject in task.without for part in heard[subject] if part != task.part]
    align = "    - {name: align}\n" if task.align else ""
    filled = DATA.format(path=json.dumps(str(path.resolve())), exclude=json.dumps(exclude), align=align)
    (folder / f"{task.name}.yaml").write_text(filled)
    return _launch(folder, "preprocess", RECIPE, folder / f"{task.name}.yaml")


def _decoded(folder: Path, task: Task, store: str, quick: bool) -> Decoded:
    """Where nothing is aligned only the ridge is wanted, so training is a step."""
    words = [f"data={store}", f"split.test_units=[clean_{task.part}]"]
    words += [] if task.align else ["optim.steps=1", "optim.validate_every=1"]
    seeds = range(1 if quick or not task.align else 3)
    models = [_launch(folder, "train", RECIPE, *words, f"seed={seed}") for seed in seeds]
    judge = _launch(folder, "evaluate", RECIPE, f"model=[{','.join(models)}]")
    return predictions.read(folder / "runs" / judge / "out/predictions.h5")


def _launch(folder: Path, *words: str | Path) -> str:
    """The run's name."""
    command = [sys.executable, "-m", "hpc.launch", *map(str, words), "--on", "local", "--runs", str(folder / "runs")]
    done = subprocess.run([*command, "--json"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    name: str = json.loads(done.stdout)[0]["run"]
    print(f"{name} finished", file=sys.stderr, flush=True)
    return name


# ---------------------------------------------------------------------------------------------------------- comparing


def _of(decoded: Sequence[tuple[Task, Decoded]], several: Sequence[str], trained: str) -> Decoded | None:
    """The test trials of whose own other parts were trained on, or of whose none were."""
    kept: list[DecodedTrial] = []
    ridge: list[np.ndarray] = []
    for task, parts_of in decoded:
        for trial, beside in zip(parts_of.trials, parts_of.by("ridge").trials, strict=True):
            own = trial.subject in several and trial.subject not in task.without
            whole = not task.without
            if (own and whole) if trained == OWN else (not own and (whole or trial.subject in task.without)):
                kept.append(trial)
                ridge.append(beside.output)
    if not kept:
        return None
    any_of = decoded[0][1]
    return Decoded(any_of.sfreq, tuple(kept), (), target=any_of.target, baselines={"ridge": np.concatenate(ridge)})


class Row(NamedTuple):
    r: np.ndarray  # of each trial
    chance: float  # what the mean stays below in 95 % of rotations of the envelope
    match: float


def _compared(trained: str, short: str, aligned: Decoded | None, plain: Decoded | None) -> dict[str, Goal]:
    """Print the table, give the goals."""
    assert aligned is not None
    decoders = {"ours": aligned, "ridge, ours, aligned": aligned.by("ridge")}
    if plain is not None:
        decoders["ridge, ours, as it was recorded"] = plain.by("ridge")
    rows = {name: _row(decoder) for name, decoder in decoders.items()}
    print(f"\n{LINEAR[trained]}, n = {len(aligned.trials)}: {trained}")
    print(f"{'':<32}{'r':>7}{'95 % of rotations':>20}{'match-mismatch 10 s':>22}")
    for name, row in rows.items():
        print(f"{name:<32}{row.r.mean():>7.3f}{row.chance:>20.3f}{row.match:>20.1%}")
    print(f"{'ridge, as measured elsewhere':<32}{RIDGE[trained].r:>7.3f}{'':>20}{RIDGE[trained].match:>20.1%}")
    each = zip(aligned.trials, rows["ours"].r, strict=True)
    print("r of each: " + " ".join(f"{trial.subject[-2:]}:{r:.3f}" for trial, r in each))
    # Recordings of one listener are not independent
    r = {name: grouping.by_subject(grouping.numbers(decoder)[0], rows[name].r) for name, decoder in decoders.items()}
    for name in list(rows)[1:]:
        print(f"ours - {name}, paired: {_text(paired.difference(r['ours'], r[name], 'listeners'))}")
    ours, *ridges = (float(row.r.mean()) for row in rows.values())
    return {
        f"r_{short}": Goal(ours, RIDGE[trained].r, at_least=True),
        f"r_{short}_over_ridges_of_ours": Goal(ours / max(ridges), 1, at_least=True),
        f"match_{short}": Goal(rows["ours"].match, RIDGE[trained].match, at_least=True),
    }


def _text(difference: paired.Difference) -> str:
    ends = "" if difference.low is None else f" [{difference.low:+.3f}, {difference.high:+.3f}], p = {difference.p:.4f}"
    return f"{difference.value:+.3f}{ends}, {difference.units}"


def _row(decoded: Decoded) -> Row:
    stimuli = sorted({trial.stimulus for trial in decoded.trials})
    rotations = dict(zip(stimuli, nulls.draws(0, nulls.ROTATIONS).random((len(stimuli), N_NULL)), strict=True))
    at_shifts = [nulls.rotated(trial.output, trial.target) for trial in decoded.trials]
    null = [
        r[nulls.shifts(rotations[trial.stimulus], len(r), round(SHORTEST_SHIFT_S * decoded.sfreq))]
        for trial, r in zip(decoded.trials, at_shifts, strict=True)
    ]
    chance = float(np.quantile(np.mean(null, axis=0), 0.95))
    return Row(np.array([r[0] for r in at_shifts]), chance, _match(decoded))


def _match(decoded: Decoded) -> float:
    """How often a window fits the envelope of its time better than that which begins when it ends; chance: 0.5."""
    return float(np.mean([np.mean(list(_wins(trial, round(WINDOW_S * decoded.sfreq)))) for trial in decoded.trials]))


def _wins(trial: DecodedTrial, n: int) -> Iterator[bool]:
    for first in range(0, len(trial.output) - 2 * n + 1, n):
        output, true, other = (
            of[at : at + n, 0] for of, at in ((trial.output, first), (trial.target, first), (trial.target, first + n))
        )
        yield bool(np.corrcoef(output, true)[0, 1] > np.corrcoef(output, other)[0, 1])

"""What each of configs/recipes is to find at its tiny size, for the tests, `bench recipes` and `bench drills`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpc import config
from hpc.plan import plan
from hpc.runs.rundir import RunDir, read_json

FOLDER = Path(__file__).parent.parent / "configs" / "recipes"
Chance = Callable[[RunDir], float]


@dataclass(frozen=True)
class Effect:
    """Where to look for what a recipe finds, and what that would be by chance.

    Parameters
    ----------
    figure
        Of `section`, as val_accuracy of train.
    chance
        Of the finished run of that section.
    by
        What is found differs from chance by so much at least: below 0, it is to be less.
    after
        The recipe whose training this one begins with.
    also
        What else is to be found, in other sections.
    """

    figure: str
    chance: Chance
    by: float
    section: str = "train"
    after: str = ""
    also: tuple["Effect", ...] = ()

    def size(self, run: RunDir) -> "Size":
        """How large it is in a finished run of its section."""
        return Size(self, metric(run, self.figure), self.chance(run))


@dataclass(frozen=True)
class Size:
    """An effect as a run has found it."""

    effect: Effect
    value: float
    chance: float

    @property
    def margin(self) -> float:
        """In units of what is asked: 1 is just enough, 0 chance."""
        return (self.value - self.chance) / self.effect.by

    def __str__(self) -> str:
        return (
            f"{self.effect.figure} is {self.value:.3f}, by chance {self.chance:.3f}: {self.margin:.2f} of what is asked"
        )


def metric(run: RunDir, name: str) -> float:
    ended = read_json(run.result)
    if ended is None:
        raise ValueError(f"{run.path} has not finished: it has no {run.result.name}")
    value = ended["metrics"][name]
    return float(value["value"] if isinstance(value, dict) else value)


def always(value: float) -> Chance:
    return lambda run: value


def best_constant(off_by: Callable[[np.ndarray], float]) -> Chance:
    """How far off the best constant is on the validation part."""

    def chance(run: RunDir) -> float:
        from eegdecode.data.split import splits
        from eegdecode.data.store import store
        from eegdecode.training import model_file

        trained = model_file.load(run.out)
        data = store.open_store(*(run.path.parent / name / "out" for name in trained.data))
        part = splits.split(trained.split, data.recordings, trained.train().windows).val
        of = [(data.recordings[segment.recording], segment.trial) for segment in part]
        return off_by(np.array([stored.values(trained.target)[stored.trials.index(trial)] for stored, trial in of]))

    return chance


def mean_square(truth: np.ndarray) -> float:
    return float(truth.var())


def mean_distance(truth: np.ndarray) -> float:
    return float(np.abs(truth - np.median(truth)).mean())


def bound(name: str) -> Chance:
    """What its figure stays below in 95 of 100 cases with the music rotated in time, as evaluate says."""
    return lambda run: float(read_json(run.out / "report.json")["figures"][name]["bound"])  # type: ignore[index]


EFFECTS = {
    "eeg2025-c1": Effect("val_loss", best_constant(mean_square), by=-0.08),  # s², of about 0.21
    "eeg2025-c2": Effect("val_loss", best_constant(mean_distance), by=-0.1),
    "eegpt-pretrain": Effect("val_rebuilt", always(1.0), by=-0.04),  # that of no wave at all
    "eegpt-probe": Effect("val_accuracy", always(1 / 2), by=0.25, after="eegpt-pretrain"),
    "finetune": Effect("val_accuracy", always(1 / 2), by=0.3),
    "images-clip": Effect("val_top5", always(5 / 16), by=0.3),
    "meg-movie-ssl": Effect("val_r", always(0.0), by=0.1),
    "motor-conformer": Effect("val_accuracy", always(1 / 4), by=0.4),
    "motor-eegnet": Effect("val_accuracy", always(1 / 4), by=0.4),
    "music-bilstm": Effect("val_r", always(0.0), by=0.5),
    "music-diffusion": Effect("r", bound("r"), by=0.15, section="evaluate"),
    "music-eegpt-spectrogram": Effect("val_r", always(0.0), by=0.25),
    "scmbm": Effect(
        "val_top5", always(5 / 16), by=0.3, also=(Effect("val_r", always(0.0), by=0.1, section="pretrain"),)
    ),
    "simclr": Effect("val_found", always(1 / 31), by=0.3),  # among the 2 * 16 views of a batch, but itself
    "speech-eeg": Effect("val_r", always(0.0), by=0.5),
    "speech-meg-clip": Effect("val_top5", always(5 / 16), by=0.3),
    "tfc": Effect("val_across", always(float(np.log(31))), by=-0.2),  # as well as any of 31; before training 5.3
}

CONTROLS = {"motor-eegnet": ("val_accuracy", 0.45)}  # of 48: 3 standard deviations above 1/4
"""What is at most found where nothing is planted. Of six seeds none found more than 0.27."""


def chain(name: str) -> list[str]:
    """A recipe, and before it the one whose training it begins with."""
    after = EFFECTS[name].after
    return [*([after] if after else []), name]


def effects(name: str) -> tuple[Effect, ...]:
    """All that a recipe is to find."""
    return (EFFECTS[name], *EFFECTS[name].also)


def sciences(name: str, words: Sequence[str] = ()) -> list[plan.Science]:
    """What a recipe computes at its tiny size."""
    values = config.choose(config.load([FOLDER / f"{name}.yaml"]), "size=tiny")
    return plan.sciences("pipeline", values, words)


def seeded(name: str, study: int, training: int) -> list[tuple[str, plan.Science]]:
    """What a recipe's chain computes on a study of that seed, trained with the other; each with whose it is."""
    seeds = {"synthesize": study, "train": training}
    computed: list[tuple[str, plan.Science]] = []
    start: list[str] = []
    for each in chain(name):
        words = [f"{s.section}.seed={seeds[s.stage]}" for s in sciences(each, start) if s.stage in seeds]
        own = sciences(each, [*words, *start])
        computed += [(each, science) for science in own]
        start = [f"train.start.source={science.name}" for science in own if science.section == "train"]
    return computed

"""Which stimuli there are, by names alone: a plan looks too."""

from dataclasses import dataclass
from pathlib import Path

from eegdecode.data.io import bids
from eegdecode.data.io.formats import SOUNDS
from eegdecode.data.io.readers.decoded import FILMS
from eegdecode.features.config import Features, Pictures, Stimuli, Words
from hpc.errors import first_of

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")


@dataclass(frozen=True)
class Stimulus:
    """A picture, a sound, a film, a transcript, or a word of a table."""

    name: str
    """As the events name it: a path from the folder, or what stands in the column stimulus."""
    path: Path
    text: str = ""


def folder_of(study: Path) -> Path:
    """The folder from which stimuli are named: the `stimuli` of a study, or the folder itself."""
    return study / "stimuli" if (study / "stimuli").is_dir() else study


def find(cfg: Features, study: Path) -> list[Stimulus]:
    """The stimuli in the order of their names. Raises ValueError if there is none, or one twice."""
    folder = folder_of(study)
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder} with stimuli: correct features.study")
    paths = files(cfg.stimuli, folder)
    if isinstance(cfg.stimuli, Words) and not is_stream(cfg, paths):
        return _texts(cfg.stimuli, paths)
    found = [Stimulus(path.relative_to(folder).as_posix(), path) for path in paths]
    if is_stream(cfg, paths):
        _refuse_twins(found)
    return found


def files(cfg: Stimuli, folder: Path) -> list[Path]:
    """The files of a kind below a folder."""
    suffix_of = {"pictures": PICTURES, "sounds": (*SOUNDS, *FILMS), "films": FILMS}
    known = suffix_of.get(cfg.name, (".tsv", ".csv"))
    there = sorted(path for path in folder.glob(cfg.files or "**/*") if path.is_file())
    there = [path for path in there if not any(p.startswith(".") for p in path.relative_to(folder).parts)]
    fit = [path for path in there if path.suffix.lower() in known]
    if isinstance(cfg, Words):
        fit = [path for path in fit if cfg.column in bids.table(path)[0]]
    if fit:
        return fit
    others = sorted({path.suffix.lower() or "no suffix" for path in there})
    has = f"has files of {first_of(others)}" if others else "has no file"
    if isinstance(cfg, Words):
        raise ValueError(
            f"{folder} has no table {cfg.files!r} with the column {cfg.column!r}: add one, or correct stimuli.files or "
            "stimuli.column"
        )
    if cfg.files:
        raise ValueError(
            f"{folder} has no {cfg.name} ({' '.join(known)}) that match {cfg.files!r}: correct features.stimuli.files"
        )
    raise ValueError(
        f"{folder} {has}, but no {cfg.name}, which are {' '.join(known)}: correct features.study, or features.stimuli"
    )


def is_stream(cfg: Features, paths: list[Path]) -> bool:
    """Whether the features of these files are streams, and not one vector each."""
    if isinstance(cfg.stimuli, Words):
        return "onset" in bids.table(paths[0])[0]
    return not isinstance(cfg.stimuli, Pictures)


def _texts(cfg: Words, paths: list[Path]) -> list[Stimulus]:
    found = []
    for path in paths:
        rows = bids.read_tsv(path)
        if rows and "stimulus" not in rows[0]:
            raise ValueError(
                f"{path} needs a column stimulus, which names the stimulus of each {cfg.column}; or onset, if it is "
                "the transcript of a sound"
            )
        words = [row[cfg.column] for row in rows]
        found += [
            Stimulus(row["stimulus"], path, " ".join(words[max(0, place - cfg.context) : place + 1]))
            for place, row in enumerate(rows)
        ]
    names = [stimulus.name for stimulus in found]
    if twice := sorted({name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else ()):
        raise ValueError(f"the tables of words name {first_of(twice)} twice: keep one row of each stimulus")
    return sorted(found, key=lambda stimulus: stimulus.name)


def _refuse_twins(found: list[Stimulus]) -> None:
    """Streams are found by the name without its suffix, as a film and its sound have the same."""
    by_stem: dict[str, str] = {}
    for stimulus in found:
        stem = stem_of(stimulus.name)
        if stem in by_stem:
            raise ValueError(
                f"{by_stem[stem]} and {stimulus.name} would have the same features, {stem}.npy: say which with "
                f"stimuli.files, as *{Path(stimulus.name).suffix}"
            )
        by_stem[stem] = stimulus.name


def stem_of(name: str) -> str:
    """The name without its suffix, with the folders before it, as targets fill in `{stem}`."""
    return Path(name).with_suffix("").as_posix()

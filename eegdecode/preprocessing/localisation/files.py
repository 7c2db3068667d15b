"""The files of a head: a folder of SUBJECTS_DIR, as FreeSurfer and mne write it. Looked for here, opened elsewhere."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

AVERAGE = "fsaverage"
MODEL = {
    "src": "bem/fsaverage-ico-5-src.fif",
    "bem": "bem/fsaverage-5120-5120-5120-bem-sol.fif",
    "trans": "bem/fsaverage-trans.fif",
}
OWN = {"src": "bem/*-src.fif", "bem": "bem/*-bem-sol.fif", "trans": "*/*-trans.fif"}
"""Where the files of a subject's own head are looked for."""
MADE_BY = {"src": "mne.setup_source_space", "bem": "mne.make_bem_solution", "trans": "mne coreg"}
MNI = ("mri/transforms/talairach.xfm", "mri/orig.mgz")
"""From the head's own coordinates to those of the MNI; fsaverage is in them already."""


class Settings(Protocol):
    """What the step sources sets about files."""

    @property
    def folder(self) -> str: ...
    @property
    def src(self) -> str: ...
    @property
    def bem(self) -> str: ...
    @property
    def trans(self) -> str: ...
    @property
    def parcellation(self) -> str: ...
    @property
    def needs_regions(self) -> bool: ...
    @property
    def needs_mni(self) -> bool: ...


@dataclass(frozen=True)
class HeadFiles:
    """`annot`: the parcellation, left and right; empty where none is needed. `mni`: likewise."""

    folder: Path
    src: Path
    bem: Path
    trans: Path
    annot: tuple[Path, ...]
    mni: tuple[Path, ...]

    @property
    def is_average(self) -> bool:
        return self.folder.name == AVERAGE

    def __iter__(self) -> Iterator[Path]:
        return iter((self.src, self.bem, self.trans, *self.annot, *self.mni))


def of_head(cfg: Settings, subject: str) -> HeadFiles:
    """The files for a subject; what is not there is a ValueError with what to do."""
    folder = Path(_filled(cfg.folder, subject)).expanduser()
    is_average = folder.name == AVERAGE
    usual = MODEL if is_average else OWN
    lacking: dict[str, str] = {}
    paths: dict[str, Path] = {}
    for what, setting in (("src", cfg.src), ("bem", cfg.bem), ("trans", cfg.trans)):
        pattern = _filled(setting, subject) or usual[what]
        path = _one(folder, pattern, what, exact=bool(setting))
        if path is None:
            lacking[what] = pattern
        else:
            paths[what] = path
    annot = [f"label/{side}.{cfg.parcellation}.annot" for side in ("lh", "rh")] if cfg.needs_regions else []
    mni = [name for name in MNI if cfg.needs_mni and not is_average]
    lacking |= {name: name for name in (*annot, *mni) if not (folder / name).is_file()}
    if lacking:
        raise ValueError(
            f"sources needs {AVERAGE if is_average else f'the head of {subject}'}, but {folder} lacks "
            f"{', '.join(lacking.values())}: {_how(folder, lacking, cfg.parcellation)}; "
            "or set sources.model=sphere, a rough stand-in that needs no files"
        )
    return HeadFiles(
        folder, **paths, annot=tuple(folder / name for name in annot), mni=tuple(folder / name for name in mni)
    )


def _filled(setting: str, subject: str) -> str:
    """BIDS names a subject sub-01, SUBJECTS_DIR often as well: {subject} is sub-01."""
    return setting.replace("{subject}", subject)


def _one(folder: Path, pattern: str, what: str, exact: bool) -> Path | None:
    """The only file of that name; None where there is none."""
    if exact or "*" not in pattern:
        path = folder / Path(pattern).expanduser()
        return path if path.is_file() else None
    some = sorted(path for path in folder.glob(pattern) if "-vol-" not in path.name)
    if len(some) > 1:
        names = ", ".join(path.relative_to(folder).as_posix() for path in some)
        raise ValueError(f"{folder} has several files {pattern}: {names}; choose one by sources.{what}")
    return some[0] if some else None


def _how(folder: Path, lacking: dict[str, str], parcellation: str) -> str:
    """What to do where there is a network, or FreeSurfer."""
    is_average = folder.name == AVERAGE
    missing_annot = any(name.endswith(".annot") for name in lacking)
    if is_average and missing_annot and parcellation.startswith("HCPMMP1"):
        command = (
            f"mne.datasets.fetch_fsaverage('{folder.parent}'); "
            f"mne.datasets.fetch_hcp_mmp_parcellation(subjects_dir='{folder.parent}')"
        )
        return f'fetch it where there is a network, by python -c "import mne; {command}"'
    if is_average:
        return (
            "fetch it where there is a network, by "
            f"python -c \"import mne; mne.datasets.fetch_fsaverage('{folder.parent}')\""
        )
    how = [f"{word} by {MADE_BY[word]}" for word in lacking if word in MADE_BY]
    how += ["the parcellation by FreeSurfer's mri_surf2surf"] if missing_annot else []
    how += ["the place in the MNI by FreeSurfer's recon-all"] if any(name in MNI for name in lacking) else []
    return f"make {', '.join(how)}, or name the files in sources.src, bem and trans"

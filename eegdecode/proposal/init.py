"""Look at a study, and write a config for it that runs: `hpc init FOLDER`.

It asks nothing: every line of the config is a guess, below what it was concluded from and what it might be instead.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from eegdecode.data.config import Matlab, Reading, Table
from hpc import media
from hpc.media import many
from hpc.runs.rundir import write_output


@dataclass(frozen=True)
class Init:
    """What is known of the study beforehand; the rest is guessed."""

    files: str = ""  # the names of recordings, as {subject}/*_{run}.set; by default they are compared
    matlab: Matlab = field(default_factory=Matlab)  # what .mat files do not say
    table: Table = field(default_factory=Table)  # what .csv, .tsv, .parquet, .npy and .npz do not say
    output: str = ""  # the config to write; by default FOLDER.yaml, here
    explain: bool = False  # print what was seen, and write nothing


def run(cfg: Init, files: Sequence[Path], as_json: bool) -> str:
    """Look at a study, and write a config for it that runs. Each of its lines is a guess, with the evidence.

    python -m hpc.launch init FOLDER
    python -m hpc.launch init my-study --explain
    python -m hpc.launch init my-study --output first-look.yaml
    """
    # These import h5py and scipy, which --help and the tab key need not wait for
    from eegdecode.proposal import explain, folder, seen
    from eegdecode.proposal.progress import Progress
    from eegdecode.proposal.propose import propose
    from eegdecode.proposal.write import text

    if len(files) != 1:
        raise ValueError(f"init looks at one folder, but got {len(files)}: give a line for each")
    study = files[0]
    name = re.sub(r"[^\w.-]+", "-", study.resolve().name).strip("-") or "study"
    output = Path(cfg.output or f"{name}.yaml")
    if not cfg.explain and output.exists():
        raise ValueError(
            f"{output} is there already, and init overwrites nothing: rename it, or say --output OTHER.yaml; "
            "--explain prints what is seen and writes nothing"
        )
    progress = Progress(f"looking at {study}")
    try:
        sight = seen.look(folder.look(study, cfg.files, progress), Reading(cfg.matlab, cfg.table), progress)
    finally:
        progress.end()
    if cfg.explain and not as_json:
        return f"{explain.text(sight)}\n\nNothing was written. {explain.outcome(sight, output)}"
    proposal = propose(sight, _named(study))
    command = f"hpc pipeline {media.shell([str(output)])} --on local"
    title = [
        f"Proposed by `hpc init {media.shell([str(study)])}`, from {many(len(sight.folder.entries), 'recording')} of "
        f"{many(len(sight.subjects), 'subject')}, {len(sight.seen)} of them opened.",
        "Each line is a guess: above it stands what it was concluded from, and what else it might be. Correct what is",
        f"wrong, then:   {command}",
    ]
    if not cfg.explain:
        write_output(output, text(title, proposal.sections))
    if as_json:
        told = {"config": str(output), "values": proposal.values, "seen": explain.plain(sight)}
        return json.dumps(told, indent=1)
    then = f"wrote {output}: look at its comments, correct what is wrong, then"
    text_of_folds = _all_folds(proposal.all_folds, output)
    return f"{explain.short(proposal.sight, proposal)}\n\n{then}\n\n  {command}{text_of_folds}"


def _all_folds(folds: str, output: Path) -> str:
    """What to do for a verdict where one fold has too few recordings or people; empty where it has enough."""
    if not folds:
        return ""
    config = media.shell([str(output)])
    return (
        "\n\nThat tests one fold, which has too few recordings or people to decide anything. All folds together:\n\n"
        f"  hpc sweep pipeline {config} train.split.fold={folds} --name folds --on local\n"
        "  hpc evaluate model=folds --on local"
    )


def _named(study: Path) -> str:
    """The folder as a config names it: an input with a / is a folder."""
    return str(study) if study.is_absolute() else f"./{study}"

"""What our readers make of every file below a folder, beside what mne says: `python -m bench formats PATH`.

Without a folder only the second part: finding 10,080 recordings of a declared 197 GB, beside a bare look at the names.
"""

import os
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import mne
import numpy as np

from bench.compare import Goal, rounds, show
from eegdecode.data.io import damage, raw, recordings

FOLDERS = (".ds", ".mff", ".mefd")  # recordings that are a folder
N_SUBJECTS, N_RUNS = 120, 84


def run(quick: bool, path: str = "") -> bool:
    goals = {}
    if path:
        goals = _table(Path(path))
    else:
        print("formats: left out, no folder was named: python -m bench formats PATH")
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder)
        _sparse_study(study)
        found, whole_mb = _alone(study)
        seconds = rounds({OURS: lambda: recordings.find(study), WALK: lambda: _walk(study)}, 3 if quick else 7)
    assert found == N_SUBJECTS * N_RUNS
    goals["seconds_to_index"] = Goal(max(seconds[OURS]), 10)
    goals["mb_to_index"] = Goal(whole_mb, 500)
    return show(f"index of {found} recordings, 197 GB declared", seconds, WALK, goals)


OURS, WALK = "find: names, sizes, entities", "os.walk: names alone"


def _table(folder: Path) -> dict[str, Goal]:
    """A line or two a file; gives what we claim."""
    counts: Counter[str] = Counter()
    lost, unlike = 0, 0.0
    for path in _files(folder):
        ours, stream = "read", None
        try:
            opened = raw.open(path)
            stream = opened.stream
            what = _describe(opened)
        except ValueError as error:
            what = str(error).replace(f"{path.parent}/", "")
            kinds = {finding.kind for finding in damage.of_file(path) if finding.fatal}
            ours = {"part": "part", "other": "other"}.get(next(iter(kinds), ""), "FAILS")
            if "no recording" in what:
                ours = "other"
            elif "matlab." in what:
                ours = "asks"
        theirs, samples = _mne(path)
        counts.update([ours, "read by mne"] if samples is not None else [ours])
        print(f"{ours:<6} {path.relative_to(folder)}\n       {what}\n       mne: {theirs}")
        if samples is not None and stream is None:
            lost += ours == "FAILS"
        elif samples is not None and stream is not None:
            mine = stream.read(0, len(samples))
            scale = np.abs(samples).max(initial=1e-30)
            unlike = max(unlike, float(np.abs(mine - samples).max(initial=0.0) / scale))
    print(
        f"\n{counts['read']} read, {counts['part']} parts of others, {counts['other']} no recordings, "
        f""
        f"{counts['asks']} ask for a setting, {counts['FAILS']} not read; mne reads {counts['read by mne']}"
    )
    return {
        "read_by_mne_but_not_by_us": Goal(lost, 0),
        "largest_difference_from_mne": Goal(unlike, 1e-6),
    }


def _describe(opened: raw.Opened) -> str:
    stream = opened.stream
    kinds = Counter(stream.sensor(name).kind for name in stream.channels)
    places = sum(stream.sensor(name).position is not None for name in stream.channels)
    parts = [", ".join(f"{n} {kind}" for kind, n in kinds.items()), f"{places} places" if places else ""]
    parts += [f"{stream.sfreq:g} Hz", f"{stream.duration:.1f} s"]
    parts += [f"{len(opened.annotations)} annotations" if opened.annotations else ""]
    parts += [f"{len(opened.trial_edges) + 1} trials" if opened.trial_edges else ""]
    return " · ".join(each for each in parts if each) + "".join(f"\n       note: {note}" for note in opened.notes)


def _mne(path: Path) -> tuple[str, np.ndarray | None]:
    """Its verdict in a line, and the first second."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            theirs = mne.io.read_raw(path, preload=False, verbose="error")
            theirs.get_data(start=theirs.n_times - 1)
            samples = theirs.get_data(stop=min(theirs.n_times, int(theirs.info["sfreq"]))).T
        except Exception as error:  # noqa: BLE001  its words are what is wanted
            output = (str(error).strip().splitlines() or [""])[0]
            return f"{type(error).__name__}: {output[:150]}", None
    return "ok", samples


def _files(folder: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(folder):
        folders.sort()
        yield from (Path(here) / name for name in folders if name.endswith(FOLDERS))
        folders[:] = [name for name in folders if not name.endswith(FOLDERS)]
        yield from (Path(here) / name for name in sorted(files))


def _sparse_study(study: Path) -> None:
    """As many and as large as the MEG and EEG of THINGS; the files have a size but no blocks on the disk."""
    for subject in range(N_SUBJECTS):
        folder = study / f"sub-{subject:03d}/meg"
        folder.mkdir(parents=True)
        for number in range(N_RUNS):
            path = folder / f"sub-{subject:03d}_task-things_run-{number:02d}_meg.fif"
            path.touch()
            os.truncate(path, 197 * 10**9 // (N_SUBJECTS * N_RUNS))


def _alone(study: Path) -> tuple[int, float]:
    """In a process that does nothing else: how many were found, and MB of the whole process at its largest."""
    code = (
        "import re, sys; from pathlib import Path; from eegdecode.data.io import recordings; "
        "n = len(recordings.find(Path(sys.argv[1]))); "
        # getrusage would count what the parent was before exec
        "print(n, int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) / 1024)"
    )
    output = subprocess.run([sys.executable, "-c", code, str(study)], capture_output=True, text=True, check=True).stdout
    n, mb = output.split()
    return int(n), float(mb)


def _walk(study: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(study))

"""Fetch a public data set into a BIDS folder: `hpc fetch moabb:BNCI2014_001`, on a machine with a way to the net.

The package that knows the data set downloads it (eegdecode/exchange/sources.py); what it gives is written recording by
recording. A fetch that was stopped continues.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eegdecode.data.io.raw import sensors_of
from eegdecode.exchange import bids_recording, bids_study, mne_objects, sources
from eegdecode.exchange.bids_recording import BidsRecording
from eegdecode.exchange.bids_study import VERSION, BidsStudy, label
from eegdecode.exchange.progress import Progress
from eegdecode.exchange.sources import Found
from eegdecode.signals import Stream
from hpc.media import many


@dataclass(frozen=True)
class Fetch:
    """What of the data set is fetched, and where to."""

    output: str = ""  # the folder of the study; by default the name of the data set, here
    subjects: tuple[str, ...] = ()  # which subjects; by default all
    options: dict[str, Any] = field(default_factory=dict)  # arguments of the package's class of the data set
    cache: str = ""  # the folder into which the package downloads; by default its own


def run(cfg: Fetch, files: Sequence[Path], as_json: bool) -> str:
    """Fetch a data set of MOABB, braindecode or EEGDash into a BIDS folder: whole, or not there.

    python -m hpc.launch fetch moabb:BNCI2014_001
    python -m hpc.launch fetch moabb:BNCI2014_001 subjects=[1,2] --output /scratch/me/bnci
    python -m hpc.launch fetch eegdash:ds002718 subjects=[002]
    """
    if len(files) != 1:
        raise ValueError(f"fetch gets one data set, but got {len(files)}: give a line for each")
    scheme, _, name = str(files[0]).partition(":")
    if not re.fullmatch(r"[\w.-]+", name):
        raise ValueError(f"{files[0]} names no data set: {scheme}:NAME, as {scheme}:{EXAMPLES[scheme]}")
    folder = Path(cfg.output or name)
    request = {"of": f"{scheme}:{name}", "subjects": list(cfg.subjects), "options": dict(cfg.options)}
    if bids_study.is_whole(folder, request):
        return json.dumps({"folder": str(folder)}) if as_json else f"{folder} is there already: {_then(folder)}"
    data = _reached(lambda: sources.source(scheme, name, cfg.subjects, cfg.options, cfg.cache), f"{scheme}:{name}")
    progress = Progress(f"fetching {scheme}:{name}", 0)
    with bids_study.opened(folder, request) as study:
        rows = [_of_subject(study, data, subject, progress, f"{scheme}:{name}") for subject in data.subjects]
        progress.end()
        maker = {**sources.made_by(scheme), "Description": f"Downloaded as {scheme}:{name}"}
        writer = {"Name": "hpc-eegdecode", "Version": VERSION, "Description": "Written as BIDS"}
        description = {
            "Name": data.title,
            "DatasetType": "raw",
            "GeneratedBy": [maker, writer],
            **({"DatasetDOI": f"doi:{data.doi.removeprefix('https://doi.org/')}"} if data.doi else {}),
        }
        readme = f"{data.title}, fetched by {scheme} as {name}. {f'See doi:{data.doi}.' if data.doi else ''}\n"
        texts = {"participants.tsv": bids_study.participants(rows), "README": readme}
        n_recordings = len(study.written)
        study.finish(description, texts, (), about={"of": f"{scheme}:{name}"})
    if as_json:
        return json.dumps({"folder": str(folder), "subjects": len(rows), "recordings": n_recordings})
    counts = f"{many(n_recordings, 'recording')} of {many(len(rows), 'subject')}"
    return f"wrote {folder}: {counts}. {_then(folder)}"


EXAMPLES = {"moabb": "BNCI2014_001", "braindecode": "BNCI2014_001", "eegdash": "ds002718"}


def _then(folder: Path) -> str:
    return f"Next: hpc init {folder}"


def _reached(act: Callable[[], Any], what: str) -> Any:
    """What a downloader returns. A ValueError is a sentence of ours; all else means that it cannot be had now."""
    try:
        return act()
    except ValueError:
        raise
    except Exception as error:  # noqa: BLE001  downloaders raise what their many parts do
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        if isinstance(error, OSError):  # also what requests and urllib raise without a net
            raise ValueError(
                f"{what} could not be downloaded ({reason}): give the line again where there is a way to the "
                "net and room on the disk, it continues"
            ) from None
        raise ValueError(f"{what} cannot be had, as the package that knows it has failed: {reason}") from None


def _of_subject(study: BidsStudy, data: sources.Source, subject: str, progress: Progress, what: str) -> dict[str, str]:
    """Write the recordings of a subject that are not there yet; returns its row of participants.tsv. A subject whose
    recordings are all there is not asked for again."""
    row = {"participant_id": f"sub-{_padded(subject)}"}
    known = study.notes.get(subject)
    if known is not None and all(study.has(name) for name in known["recordings"]):
        return {**row, **known["about"]}
    names: list[str] = []
    about: dict[str, str] = {}
    coming = iter(_reached(lambda: iter(data.recordings(subject)), f"subject {subject} of {what}"))
    end = object()
    while (found := _reached(lambda: next(coming, end), f"subject {subject} of {what}")) is not end:
        assert isinstance(found, Found)
        progress.begin(found.name)
        names.append(found.name)
        about |= found.about
        if not study.has(found.name):
            recording = _recording(found, data.task)
            study.add(
                found.name,
                lambda part, of=recording: _reached(  # type: ignore[misc]
                    lambda: bids_recording.write(of, part, progress.part), f"{found.name} of {what}"
                ),
            )
    study.note(subject, recordings=names, about=about)
    return {**row, **about}


def _recording(found: Found, task: str) -> BidsRecording:
    """What is written of a recording of MNE."""
    raw = found.raw
    sensors, _, _ = sensors_of(raw)
    names = tuple(raw.ch_names)

    def read(first: int, stop: int) -> Any:
        return raw.get_data(start=first, stop=stop, verbose="error").T

    stream = Stream(names, float(raw.info["sfreq"]), int(raw.n_times), read, sensors)
    first_s = raw.first_samp / stream.sfreq
    notes = raw.annotations
    extras: Sequence[Mapping[str, Any]] = getattr(notes, "extras", None) or [{}] * len(notes)
    rows = [
        {**{str(key): value for key, value in (extra or {}).items() if key not in OWN}, "onset": onset - first_s,
         "duration": duration, "trial_type": text}
        for onset, duration, text, extra in zip(
            notes.onset.tolist(), notes.duration.tolist(), notes.description.tolist(), extras, strict=True
        )
    ]  # fmt: skip
    words = {"sub": _padded(found.subject), "ses": label(found.session), "run": _padded(found.run)}
    line_hz = raw.info["line_freq"]
    return BidsRecording(
        {**words, "task": label(found.task or task) or "unnamed"},
        stream,
        rows,
        {"PowerLineFrequency": float(line_hz)} if line_hz else {},
        bads=dict.fromkeys(raw.info["bads"], "marked bad in the file"),
        save_fif=lambda path: mne_objects.save_fif(raw, path),
    )


OWN = ("onset", "duration", "trial_type")


def _padded(text: str) -> str:
    """A label; numbers have two digits, so that names are in order."""
    word = label(text)
    return word.zfill(2) if word.isdigit() else word

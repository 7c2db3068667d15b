"""Write a preprocess run as BIDS derivatives: `hpc derivatives RUN -o FOLDER`.

The folder is a data set of its own, as BIDS wants it: names with desc-, dataset_description.json with what made it and
from what, channels.tsv, events.tsv with the labels and bad spans, positions, and in code/ the config and the version of
the code.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eegdecode.data.store.dataset import Stored
from eegdecode.data.store.store import open_store
from eegdecode.exchange import bids_recording, bids_study, runs
from eegdecode.exchange.bids_recording import BidsRecording
from eegdecode.exchange.bids_study import VERSION, BidsStudy, label
from eegdecode.exchange.progress import Progress
from eegdecode.preprocessing import record
from eegdecode.signals import Stream
from hpc import config, media
from hpc.media import many
from hpc.runs import products, records
from hpc.runs.rundir import RunDir, atomic_write, write_json

UNITLESS = ("scale", "align", "mel")
"""Steps behind which samples are no volt any more; `gain` changes the unit too."""


@dataclass(frozen=True)
class Derivatives:
    """How the data set is named."""

    output: str = ""  # the folder to write; by default RUN-bids, here
    runs: str = "runs"  # the folder that holds the run folders
    desc: str = "preproc"  # the entity desc- of each file
    task: str = ""  # the entity task- of recordings whose name has none; by default the name of the study

    def __post_init__(self) -> None:
        for name in ("desc", "task"):
            if (value := getattr(self, name)) != label(value):
                raise ValueError(f"{name} is an entity of BIDS, of letters and digits, but got {value!r}")
        if not self.desc:
            raise ValueError("desc tells preprocessed files from raw ones: give one, as desc=preproc")


def run(cfg: Derivatives, files: Sequence[Path], as_json: bool) -> str:
    """Write the recordings of a preprocess run as a BIDS derivative data set: whole, or not there.

    python -m hpc.launch derivatives RUN
    python -m hpc.launch derivatives preprocess-x7m2 --output derivatives/eegdecode desc=filtered
    """
    if len(files) != 1:
        raise ValueError(f"derivatives writes one run, but got {len(files)}: give a line for each")
    meant = runs.find(files[0], cfg.runs)
    recordings = open_store(meant.store).recordings
    folder = Path(cfg.output or f"{meant.name}-bids")
    plan = records.plan(meant.run) if meant.run else {}
    settings = _settings(meant.run)
    request = {
        "run": meant.name,
        "recordings": [[stored.name, stored.checksum, stored.key] for stored in recordings],
        "desc": cfg.desc,
        "task": cfg.task,
    }
    answer = {"folder": str(folder), "recordings": len(recordings)}
    if bids_study.is_whole(folder, request):
        return (
            json.dumps(answer) if as_json else f"{folder} is there already, with {many(len(recordings), 'recording')}"
        )
    source = _study(meant.run, plan, settings)
    names = bids_study.distinct({stored.name: _entities(stored, cfg, source) for stored in recordings})
    progress = Progress(f"writing {folder}", len(recordings))
    with bids_study.opened(folder, request) as study:
        for stored in recordings:
            progress.begin(stored.name)
            if not study.has(stored.name):
                written = _of(stored, meant.store, names[stored.name], settings)
                study.add(stored.name, lambda part, of=written: bids_recording.write(of, part, progress.part))  # type: ignore[misc]
        progress.end()
        _finish(study, meant, plan, settings, recordings, cfg, source)
    if as_json:
        return json.dumps(answer)
    return f"wrote {folder}: {many(len(recordings), 'recording')} as desc-{cfg.desc}"


def _entities(stored: Stored, cfg: Derivatives, source: Path | None) -> dict[str, str]:
    """Those in the name of a BIDS recording; else those that are known of it."""
    inside = dict(re.findall(r"(?:^|_)([a-z]+)-([A-Za-z0-9]+)", stored.name))
    known = {"sub": label(stored.subject.removeprefix("sub-")), "ses": label(stored.session), "run": label(stored.run)}
    entities = {key: value for key, value in {**known, **inside}.items() if key in bids_study.ENTITIES}
    task = entities.get("task") or cfg.task or label(source.name if source else "") or "unnamed"
    return {**entities, "sub": entities["sub"] or "unnamed", "task": task, "split": "", "desc": cfg.desc}


def _of(stored: Stored, store: Path, entities: Mapping[str, str], settings: Mapping[str, Any]) -> BidsRecording:
    sensors = dict(zip(stored.channels, stored.sensors, strict=True))
    stream = Stream(stored.channels, stored.sfreq, stored.n_times, stored.read, sensors)
    decided = products.read(record.file(store, stored.name)) or {}
    steps = settings.get("steps") or []
    names = [str(step.get("name", "")) for step in steps if isinstance(step, dict)]
    left = [each for each in decided.get("channels", ()) if each.get("decision") != "interpolated"]
    sidecar = {
        "Description": f"Preprocessed by {' -> '.join(names) or 'no step'}.",
        "Sources": [f"bids:raw:{source}" for source in stored.made.get("sources", ())],
        "SoftwareFilters": {
            step["name"]: {key: value for key, value in step.items() if key != "name"}
            for step in steps
            if isinstance(step, dict) and step.get("name") in ("bandpass", "notch", "resample")
        }
        or "n/a",
        "PowerLineFrequency": next((s["hz"] for s in steps if s.get("name") == "notch" and s.get("hz")), "n/a"),
        "SHA256OfStore": next(iter([products.listed(store)[f"{stored.name}.h5"].sha256]), ""),  # type: ignore[index]
    }
    return BidsRecording(
        entities,
        stream,
        [*_trials(stored), *_bad_spans(stored, store)],
        sidecar,
        unit="n/a" if {*UNITLESS, "gain"} & {*names} else "",
        bads={each["name"]: str(each.get("reason", "")) for each in left if each["name"] in stored.channels},
        save_fif=lambda path: _save_fif(stored, store, path),
    )


def _save_fif(stored: Stored, store: Path, path: Path) -> None:
    from eegdecode.exchange import mne_objects

    mne_objects.save_fif(mne_objects.raw(stored, store), path)


def _trials(stored: Stored) -> list[dict[str, Any]]:
    """The trials with their labels; a target with one number a trial is a column too."""
    values = {
        name.removeprefix("values/"): stored.values(name.removeprefix("values/"))[:, 0].astype(float)
        for name, block in stored.blocks.items()
        if name.startswith("values/") and block.shape[1] == 1
    }
    classes: Mapping[str, Sequence[str]] = stored.made.get("classes", {})
    rows = []
    for number, trial in enumerate(stored.trials):
        numbers = {name: column[number].item() for name, column in values.items()}
        named = {
            name: known[int(value)] if (known := classes.get(name)) and value < len(known) else value
            for name, value in numbers.items()
        }
        labels = {key: value for key, value in trial.labels.items() if key not in ("onset", "duration")}
        own = {"stimulus": trial.stimulus} if labels.get("trial_type", trial.stimulus) != trial.stimulus else {}
        rows.append(
            {"onset": trial.start, "duration": trial.duration, "trial_type": trial.stimulus, **named, **labels, **own}
        )
    return rows


def _bad_spans(stored: Stored, store: Path) -> list[dict[str, Any]]:
    return [
        {"onset": start, "duration": stop - start, "trial_type": reason}
        for start, stop, reason in record.bad_spans(stored.bad_spans, store, stored.name)
    ]


def _settings(run: RunDir | None) -> Mapping[str, Any]:
    """The settings of the run, as its config.yaml has them; empty for a copy of its store."""
    if run is None or not run.config.is_file():
        return {}
    return config.load([run.config])


def _study(run: RunDir | None, plan: Mapping[str, Any], settings: Mapping[str, Any]) -> Path | None:
    """The study that was preprocessed: a folder, or the `out` of a run; None if it is not known, or gone."""
    word = str(settings.get("study", ""))
    if run is None or not word:
        return None
    beside = run.path.parent / str(plan.get("inputs", {}).get("study", word)) / "out"
    path = Path(plan.get("cwd", ".")) / word
    return beside if beside.is_dir() else path if path.is_dir() else None


def _finish(
    study: BidsStudy,
    meant: runs.Meant,
    plan: Mapping[str, Any],
    settings: Mapping[str, Any],
    recordings: Sequence[Stored],
    cfg: Derivatives,
    source: Path | None,
) -> None:
    raw = bids_study.description_of(source) if source else {}
    subjects = sorted({f"sub-{label(stored.subject.removeprefix('sub-'))}" for stored in recordings})
    code = [
        {key: value for key, value in each.items() if key in ("commit", "version", "modified")}
        for each in plan.get("code", ())
    ]
    made_by = {
        "Name": "hpc-eegdecode",
        "Version": VERSION,
        "Description": f"The preprocess run {meant.name}; its config and the version of its code are in code/.",
    }
    link = source.resolve().as_uri() if source else ""
    of_source = {"URL": link} if link else {}
    of_source |= {"DOI": raw["DatasetDOI"]} if raw.get("DatasetDOI") else {}
    description = {
        "Name": f"{raw.get('Name') or (source.name if source else meant.name)}, preprocessed",
        "DatasetType": "derivative",
        "GeneratedBy": [made_by],
        "SourceDatasets": [of_source] if of_source else [],
        **({"DatasetLinks": {"raw": link}} if link else {}),
        **({"License": raw["License"]} if raw.get("License") else {}),
    }
    provenance = {
        "run": meant.name,
        "stage": plan.get("stage"),
        "meaning": plan.get("meaning"),
        "version": VERSION,
        "code": code,
        "settings": settings,
        "recordings": {
            stored.name: {"key": stored.key, "made": {k: v for k, v in stored.made.items() if k != "channels"}}
            for stored in recordings
        },
    }
    write_json(study.part / "code/provenance.json", provenance)
    kept = {"code/provenance.json"}
    if meant.run and meant.run.config.is_file():
        text = meant.run.config.read_bytes()
        atomic_write(study.part / "code/config.yaml", lambda file: file.write(text))
        kept.add("code/config.yaml")
    texts = {
        "participants.tsv": bids_study.participants([{"participant_id": subject} for subject in subjects]),
        "descriptions.tsv": media.tsv(
            [["desc_id", "description"], [f"desc-{cfg.desc}", f"what {meant.name} has made"]]
        ),
        "README": f"{description['Name']}, by the preprocess run {meant.name} of hpc-eegdecode {VERSION}.\n",
    }
    study.finish(description, texts, kept, about={"made_by": meant.name})

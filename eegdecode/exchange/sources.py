"""Data sets of other packages, recording by recording. MOABB, braindecode and EEGDash download them, each in its way.

What such a package has downloaded stays in its cache, so that a fetch that was stopped does not download it again.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

from hpc.errors import did_you_mean

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Found:
    """A recording: who, when, and its mne.io.Raw with the trials as annotations."""

    subject: str
    session: str
    run: str
    raw: Any
    task: str = ""
    about: Mapping[str, str] = field(default_factory=dict)
    """What else is known of the subject, as age."""

    @property
    def name(self) -> str:
        return "/".join(filter(None, (self.subject, self.session, self.task, self.run)))


class Source(Protocol):
    """A data set."""

    @property
    def title(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def doi(self) -> str: ...
    @property
    def subjects(self) -> Sequence[str]: ...
    def recordings(self, subject: str) -> Iterator[Found]:
        """Download what is needed for this subject, and yield its recordings."""
        ...


def source(scheme: str, name: str, subjects: Sequence[str], options: Options, cache: str) -> Source:
    """The data set of this name. Raises ValueError without the package, or if it has none of that name."""
    return SOURCES[scheme](name, subjects, options, cache)


def made_by(scheme: str) -> dict[str, str]:
    """The package that downloads, and its version, as BIDS names what made a data set."""
    try:
        return {"Name": scheme, "Version": version(scheme)}
    except PackageNotFoundError:
        return {"Name": scheme}


PACKAGES = {"moabb": '"hpc-eegdecode[moabb]"', "braindecode": "braindecode", "eegdash": "eegdash"}
"""What pip installs. Only MOABB goes with the versions that we pin; EEGDash brings numba, boto3 and more."""


def _package(module: str, scheme: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != scheme:
            raise ValueError(
                f"{scheme} cannot be imported, as it lacks {error.name}: pip install {error.name}"
            ) from None
        raise ValueError(
            f"{scheme} is not installed, which downloads its data sets: pip install {PACKAGES[scheme]}"
        ) from None


def _class(module: Any, name: str, scheme: str) -> Any:
    known = [each for each in dir(module) if isinstance(getattr(module, each), type) and not each.startswith("_")]
    if name not in known:
        raise ValueError(f"{scheme} has no data set {name!r}.{did_you_mean(name, known)}")
    return getattr(module, name)


def _made(make: Any, what: str, *given: Any, **options: Any) -> Any:
    try:
        return make(*given, **options)
    except TypeError as error:
        raise ValueError(f"{what} cannot be made with these options: {error}") from None


class Moabb:
    """A data set of MOABB, `moabb.datasets.NAME`."""

    def __init__(self, name: str, subjects: Sequence[str], options: Options, cache: str) -> None:
        module = _package("moabb.datasets", "moabb")
        self.data = _made(_class(module, name, "moabb"), name, **options)
        if not hasattr(self.data, "get_data"):
            raise ValueError(f"moabb has no data set {name!r}, but something else of that name")
        if cache:
            _package("moabb.utils", "moabb").set_download_dir(cache)
        self._numbers = {str(each): each for each in self.data.subject_list}
        self.title, self.doi = str(self.data.code), str(self.data.doi or "")
        self.task = str(getattr(self.data, "paradigm", "") or name)
        self.subjects = _chosen(subjects, [*self._numbers], name)

    def recordings(self, subject: str) -> Iterator[Found]:
        number = self._numbers[subject]
        for session, runs in self.data.get_data(subjects=[number])[number].items():
            for run, raw in runs.items():
                yield Found(subject, str(session), str(run), _with_trials(raw, self.data.event_id, self.data.interval))


def _with_trials(raw: Any, event_id: Mapping[str, Any], interval: Sequence[float]) -> Any:
    """The recording with its trials as annotations: MOABB sets them from 1.0 on; before, a trigger channel has them."""
    import mne

    names = {code: name for name, codes in event_id.items() for code in (codes if isinstance(codes, list) else [codes])}
    triggers = mne.utils._get_stim_channel(None, raw.info, raise_error=False)
    if {*raw.annotations.description} & {*event_id} or not triggers:
        return raw
    events = mne.find_events(raw, shortest_event=0, verbose="error")
    events = events[[code in names for code in events[:, 2].tolist()]]
    onsets = (events[:, 0] - raw.first_samp) / raw.info["sfreq"] + interval[0]
    texts = [names[code] for code in events[:, 2].tolist()]
    return raw.set_annotations(mne.Annotations(onsets, interval[1] - interval[0], texts), verbose="error")


class Concat:
    """A data set of braindecode, `braindecode.datasets.NAME`, or one that is of its kind."""

    scheme = "braindecode"

    def __init__(self, name: str, subjects: Sequence[str], options: Options, cache: str) -> None:
        self.title, self.doi = name, ""
        self.data = self._open(name, subjects, options, cache)
        if not hasattr(self.data, "datasets"):
            raise ValueError(f"{self.scheme} has no data set of recordings {name!r}")
        self._of: dict[str, list[Any]] = {}
        for number, each in enumerate(self.data.datasets):
            about = _about(each)
            self._of.setdefault(str(about.get("subject", number + 1)), []).append((about, each))
        self.task = str(
            next((about["task"] for each in self._of.values() for about, _ in each if about.get("task")), name)
        )
        self.subjects = _chosen(subjects, [*self._of], name)

    def _open(self, name: str, subjects: Sequence[str], options: Options, cache: str) -> Any:
        made = _class(_package("braindecode.datasets", "braindecode"), name, "braindecode")
        numbers = [int(each) if each.isdigit() else each for each in subjects]
        of_them = {"subject_ids": numbers} if subjects else {}
        return _made(made, name, **of_them, **({"path": cache} if cache else {}), **options)

    def recordings(self, subject: str) -> Iterator[Found]:
        for about, each in self._of[subject]:
            extra = {key: str(about[key]) for key in ("age", "sex", "gender", "handedness") if key in about}
            words = [str(about.get(key, "")) for key in ("session", "run")]
            yield Found(subject, words[0], words[1], each.raw, str(about.get("task", "")), extra)


class EEGDash(Concat):
    """A data set of EEGDash, by its number in OpenNeuro and the like, as ds002718."""

    scheme = "eegdash"

    def _open(self, name: str, subjects: Sequence[str], options: Options, cache: str) -> Any:
        made = _class(_package("eegdash", "eegdash"), "EEGDashDataset", "eegdash")
        of_them = {"subject": list(subjects)} if subjects else {}
        found = _made(made, name, cache_dir=cache or "eegdash-cache", dataset=name, **of_them, **options)
        if not len(found.datasets):
            raise ValueError(f"eegdash has no recording of {name!r}{f' and {subjects}' if subjects else ''}")
        return found


def _about(recording: Any) -> dict[str, Any]:
    """The description of a recording of braindecode; what it does not know is left out."""
    description = recording.description
    pairs = {} if description is None else dict(description)
    return {str(key).lower(): value for key, value in pairs.items() if value is not None and value == value}


def _chosen(asked: Sequence[str], there: Sequence[str], name: str) -> list[str]:
    bare = {re.sub(r"^sub-", "", each): each for each in there}
    for each in asked:
        if re.sub(r"^sub-", "", each) not in bare:
            raise ValueError(f"{name} has no subject {each!r}.{did_you_mean(each, bare)}")
    return [bare[re.sub(r"^sub-", "", each)] for each in asked] or list(there)


SOURCES: dict[str, Any] = {"moabb": Moabb, "braindecode": Concat, "eegdash": EEGDash}

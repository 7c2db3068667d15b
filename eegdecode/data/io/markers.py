"""Markers in a .mat, as MATLAB toolboxes keep them: positions and codes, an event array, or a value for each sample.

    stimpos, stimcode      mrk.pos, mrk.y, mrk.className      EEG.event.latency, EEG.event.type      events [n x 3]

They may be at the top or in the struct that holds the signal. Names are compared without case and underscores.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eegdecode.data.io.guard import Refused
from eegdecode.data.io.readers import variables as matlab
from eegdecode.data.io.readers.variables import Variable

ONSETS = (
    "stimpos", "pos", "position", "positions", "latency", "onset", "onsets", "markerpos", "eventpos", "trigpos",
    "stimonset", "trialonset", "trialstart", "trialpos", "samples", "sample", "time", "times", "trig", "trial",
)  # fmt: skip
CODES = (
    "stimcode", "y", "code", "codes", "type", "types", "classlabel", "class", "toe", "markercode", "eventcode",
    "trigcode", "value", "values", "label", "labels", "stim", "id",
)  # fmt: skip
ARRAYS = ("events", "event", "eventarray", "eventmatrix", "trig", "triggers", "markers", "mrk", "stim")
EACH_SAMPLE = (
    "trigger", "triggers", "trig", "stim", "stimulus", "stimulustype", "stimuluscode", "status", "marker", "markers",
    "mrk", "event", "events", "sti",
)  # fmt: skip
NAMES = ("classname", "classnames", "classes", "names")
DURATIONS = ("duration", "durations", "dur")


class Markers(NamedTuple):
    """Events in the order of the file. `onsets` are as in the file; `names` are empty where there are none."""

    source: str
    onsets: np.ndarray
    codes: tuple[str, ...]
    names: Mapping[str, str]
    durations: np.ndarray | None = None


def events(path: Path, onset: str = "", code: str = "") -> Markers | None:
    """The markers of a .mat: those in these variables, or the only ones that can be recognised; None if there are
    none."""
    variables = matlab.variables(path)
    if onset:
        return _given(path, variables, onset, code)
    pairs = [
        (name, other)
        for name, variable in variables.items()
        if leaf(name) in ONSETS and (n := _length(variable))
        for other in _codes(variables, name, n, code)[:1]
    ]
    arrays = [name for name, variable in variables.items() if leaf(name) in ARRAYS and _is_array(variable)]
    sources = [*(" and ".join(pair) for pair in pairs), *arrays]
    if len(sources) > 1:
        first = pairs[0][0] if pairs else arrays[0]
        raise Refused(
            f"{path} has several markers: {', '.join(sources)}: choose with events.name=file events.onset={first}"
        )
    if pairs:
        return _of_pair(path, variables, *pairs[0])
    return _of_array(variables, arrays[0]) if arrays else None


def each_sample(path: Path, n_times: int, name: str = "") -> tuple[str, np.ndarray] | None:
    """The variable with a value for each sample, of this name or of one that says so; None if there is none."""
    vectors = {
        each: variable
        for each, variable in matlab.variables(path).items()
        if (name in (each, each.rpartition(".")[2]) if name else leaf(each) in EACH_SAMPLE)
        and variable.is_number
        and len(variable.shape) == 2
        and sorted(variable.shape) == [1, n_times]
    }
    if len(vectors) > 1:
        raise Refused(
            f"{path} has several variables that may be the trigger channel: {', '.join(vectors)}: choose with "
            f"events.name=triggers events.channel={next(iter(vectors))}"
        )
    return next(((each, variable.value().ravel().astype(np.float32)) for each, variable in vectors.items()), None)


def each_trial(path: Path, n_trials: int) -> dict[str, list[str]]:
    """The variables with a value for each trial, by their name and by the last part of it."""
    values: dict[str, list[str]] = {}
    for name, variable in matlab.variables(path).items():
        if _length(variable) == n_trials:
            texts = _texts(variable)
            values |= {name: texts, name.rpartition(".")[2]: texts}
    return values


def leaf(name: str) -> str:
    """The last part of a variable's name, as it is compared with ours."""
    return name.rpartition(".")[2].lower().replace("_", "")


def shown(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def describe(path: Path) -> str:
    """What a .mat has besides the signal, for a message."""
    return matlab.listed(matlab.variables(path))


def _given(path: Path, variables: Mapping[str, Variable], onset: str, code: str) -> Markers:
    name = _named(path, variables, onset, "onset")
    variable = variables[name]
    if not code and _is_array(variable):
        return _of_array(variables, name)
    if not (n := _length(variable)):
        raise Refused(
            f"{path}: {name} is {shown(variable.shape)}, but onsets are a vector, or an event array "
            "[event x (onset, code)]: correct events.onset"
        )
    if code:
        other = _named(path, variables, code, "code")
        if n not in variables[other].shape:
            raise Refused(
                f"{path}: {name} has {n} onsets, but {other} is {shown(variables[other].shape)}: each onset "
                "needs a code"
            )
        return _of_pair(path, variables, name, other)
    others = _codes(variables, name, n)
    if len(others) > 1:
        raise Refused(f"{path}: the codes of {name} may be {' or '.join(others)}: say which with events.code=…")
    return _of_pair(path, variables, name, others[0] if others else "")


def _named(path: Path, variables: Mapping[str, Variable], name: str, setting: str) -> str:
    if name in variables:
        return name
    fitting = [each for each in variables if each.endswith(f".{name}")]
    if len(fitting) != 1:
        what = f"several {name} ({', '.join(fitting)})" if fitting else f"no variable {name}"
        raise Refused(f"{path} has {what}; there are {matlab.listed(variables)}: correct events.{setting}")
    return fitting[0]


def _length(variable: Variable) -> int:
    """The length of a vector; 0 for anything else."""
    is_vector = len(variable.shape) == 2 and min(variable.shape) == 1
    return max(variable.shape) if is_vector else 0


def _codes(variables: Mapping[str, Variable], onsets: str, n: int, code: str = "") -> list[str]:
    """The variables next to the onsets that may be their codes: of the same length, or a row for each class."""
    struct = onsets.rpartition(".")[0]
    return [
        name
        for name, variable in variables.items()
        if name != onsets
        and name.rpartition(".")[0] == struct
        and (name.rpartition(".")[2] == code if code else leaf(name) in CODES)
        and len(variable.shape) == 2
        and (_length(variable) == n or (variable.is_number and variable.shape[1] == n > 1))
    ]


def _is_array(variable: Variable) -> bool:
    """[event x (onset, code)] or [event x (onset, before, code)], onsets in order."""
    if not variable.is_number or len(variable.shape) != 2 or variable.shape[1] not in (2, 3) or not variable.shape[0]:
        return False
    onsets = np.asarray(variable.value(), float)[:, 0]
    return bool(np.isfinite(onsets).all() and (onsets >= 0).all() and (np.diff(onsets) >= 0).all())


def _of_array(variables: Mapping[str, Variable], name: str) -> Markers:
    values = np.asarray(variables[name].value(), float)
    return Markers(name, values[:, 0], tuple(f"{code:g}" for code in values[:, -1]), {})


def _of_pair(path: Path, variables: Mapping[str, Variable], onset: str, code: str) -> Markers:
    onsets = _numbers(path, onset, variables[onset])
    beside = {leaf(name): name for name in variables if name.rpartition(".")[0] == onset.rpartition(".")[0]}
    lasting = next((beside[leaf] for leaf in DURATIONS if leaf in beside), "")
    durations = _numbers(path, lasting, variables[lasting]) if lasting else None
    if durations is not None and len(durations) != len(onsets):
        durations = None
    if not code:
        return Markers(onset, onsets, ("",) * len(onsets), {}, durations)
    codes = _one_hot(variables[code]) or _texts(variables[code])
    return Markers(f"{onset} and {code}", onsets, tuple(codes), _class_names(variables, beside, codes), durations)


def _one_hot(variable: Variable) -> list[str]:
    """The number, from 1, of the row that is not 0 in each column; empty for a vector."""
    if _length(variable):
        return []
    rows = np.asarray(variable.value(), float)
    return [f"{column.argmax() + 1}" if column.any() else "" for column in rows.T]


def _texts(variable: Variable) -> list[str]:
    """Numbers without decimals that are 0; NaN, which BCI competitions give to trials of the test set, as nothing."""
    values = variable.value().ravel()
    if not variable.is_number:
        return [str(value).strip() for value in values]
    return ["" if np.isnan(value) else f"{value:.10g}" for value in values.astype(float)]


def _numbers(path: Path, name: str, variable: Variable) -> np.ndarray:
    try:
        return np.asarray(variable.value().ravel(), float)
    except ValueError:
        raise Refused(f"{path}: {name} is not made of numbers, as times are: correct events.onset") from None


def _class_names(variables: Mapping[str, Variable], beside: Mapping[str, str], codes: Sequence[str]) -> dict[str, str]:
    """{code: name} by a list of names next to the codes, or the only one in the file: of 1, 2, …, or of all codes in
    their order."""
    lists = [beside[leaf] for leaf in NAMES if leaf in beside]
    lists = lists or [name for name in variables if leaf(name) in NAMES]
    if len(lists) != 1 or variables[lists[0]].is_number:
        return {}
    names = [str(name).strip() for name in variables[lists[0]].value().ravel()]
    try:
        used = sorted({float(code) for code in codes if code})
    except ValueError:
        return {}
    if not all(names) or not used:
        return {}
    if used[0] >= 1 and used[-1] <= len(names) and all(code.is_integer() for code in used):
        return {f"{number}": name for number, name in enumerate(names, 1)}
    return {f"{code:.10g}": name for code, name in zip(used, names, strict=True)} if len(used) == len(names) else {}

"""The targets of a control change places among what could have had them; signals stay, also in a pickled copy."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from eegdecode.data.store import store
from eegdecode.data.store.dataset import Store
from eegdecode.data.store.shuffled import shuffled
from eegdecode.signals import Recording, Signal, Trial


def opened(folder: Path, classes: dict[str, list[int]], subject_of: dict[str, str] | None = None) -> Store:
    """Recordings whose trials have these classes."""
    store.write_manifest(folder, list(classes))
    for name, own in classes.items():
        rng = np.random.default_rng(len(name) + sum(own))
        signal = Signal(rng.normal(size=(64 * len(own), 2)).astype(np.float32), 64.0, ("Cz", "Pz")).stream()
        course = Signal(np.arange(64 * len(own), dtype=np.float32)[:, None], 64.0, ("envelope",)).stream()
        trials = tuple(Trial(float(n), 1.0, f"s{n}") for n in range(len(own)))
        values = {"side": np.array(own, np.float32)[:, None]}
        subject = (subject_of or {}).get(name, name)
        store.write(folder, Recording(name, subject, signal, trials, targets={"envelope": course}, values=values))
    return store.open_store(folder)


def of(data: Store) -> list[list[int]]:
    return [stored.values("side")[:, 0].astype(int).tolist() for stored in data.recordings]


def test_trials_of_a_recording_exchange_their_classes(tmp_path: Path) -> None:
    data = opened(tmp_path, {"a": [0, 1, 2] * 6, "b": [0] * 9 + [1] * 9})
    control = shuffled(data, "side", 0)
    assert [sorted(each) for each in of(control)] == [sorted(each) for each in of(data)] and of(control) != of(data)
    assert of(shuffled(data, "side", 0)) == of(control) != of(shuffled(data, "side", 1))
    for one, other in zip(data.recordings, control.recordings, strict=True):
        np.testing.assert_array_equal(one.signal, other.signal)
    assert of(pickle.loads(pickle.dumps(control))) == of(control)
    with pytest.raises(ValueError, match="read-only"):
        control.recordings[0].values("side")[0] = 9


def test_recordings_of_one_class_exchange_it_within_their_subject_and_else_subjects_do(tmp_path: Path) -> None:
    names = [f"{subject}{run}" for subject in "abcd" for run in "123"]
    subject_of = {name: name[0] for name in names}
    rest_or_task = {name: [int(name[1] == "2")] * (3 + int(name[1])) for name in names}
    data = opened(tmp_path / "runs", rest_or_task, subject_of)
    orders = {str(of(shuffled(data, "side", seed))) for seed in range(8)}
    assert len(orders) > 4
    for subject in range(4):
        own = of(shuffled(data, "side", 3))[3 * subject : 3 * subject + 3]
        assert sorted(each[0] for each in own) == [0, 0, 1] and [len(each) for each in own] == [4, 5, 6]
        assert all(len(set(each)) == 1 for each in own)
    patients = opened(tmp_path / "people", {name: [int(name[0] in "ab")] * 4 for name in names}, subject_of)
    for seed in range(4):
        people = of(shuffled(patients, "side", seed))
        each = [{value for own in people[3 * n : 3 * n + 3] for value in own} for n in range(4)]
        assert sorted(map(sorted, each)) == [[0], [0], [1], [1]], "a subject has one class still"


def test_courses_are_rotated(tmp_path: Path) -> None:
    data = opened(tmp_path, {"a": [0, 1] * 5})
    (turned,) = (stored.target("envelope")[:, 0] for stored in shuffled(data, "envelope", 0).recordings)
    assert 0.25 * 640 <= 640 - turned[0] <= 0.75 * 640 and sorted(turned) == list(range(640))

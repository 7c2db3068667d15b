"""Every trap that is planted in a study is named by the audit, and a clean study has none."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eegdecode import stages
from eegdecode.data.config import Split
from eegdecode.data.store import store
from eegdecode.evaluation.config import Audit
from eegdecode.signals import Recording, Signal, Trial
from hpc.rank.context import Context, Input, World
from hpc.runs.rundir import RunDir, read_json
from tests.eegdecode.ranks import on_ranks

SFREQ, N_TRIALS = 64.0, 12
CHANNELS = ("Fz", "Cz", "Pz", "Oz")


def recording(name: str, seed: int) -> Recording:
    """Noise, an envelope that has nothing to do with it, two classes shuffled over the trials."""
    rng = np.random.default_rng(seed)
    n_times = round(N_TRIALS * 2 * SFREQ)
    x = rng.normal(size=(n_times, len(CHANNELS))).astype(np.float32)
    envelope = np.abs(rng.normal(size=(n_times, 1))).astype(np.float32)
    trials = tuple(Trial(2.0 * k, 2.0, f"{name}-{k}.wav") for k in range(N_TRIALS))
    classes = rng.permutation(np.arange(N_TRIALS) % 2).astype(np.float32)[:, None]
    signal = Signal(x, SFREQ, CHANNELS).stream()
    targets = {"envelope": Signal(envelope, SFREQ, ("envelope",)).stream()}
    return Recording(name, name, signal, trials, targets=targets, values={"side": classes})


def study() -> list[Recording]:
    return [recording(f"sub-{index:02d}", index) for index in range(6)]


def changed(of: Recording, **channels: np.ndarray) -> Recording:
    x = of.signal.signal().data.copy()
    for name, values in channels.items():
        x[:, CHANNELS.index(name)] = values
    return replace(of, signal=Signal(x, SFREQ, CHANNELS).stream())


def audited(tmp_path: Path, recordings: list[Recording], target: str = "side", **split: object) -> dict[str, str]:
    folder = tmp_path / "store"
    store.write_manifest(folder, [each.name for each in recordings])
    for each in recordings:
        store.write(folder, each)
    ctx = Context(World(), RunDir(tmp_path / "run"))
    cfg = Audit(data=(Input(str(folder)),), target=target, split=Split(by="subject", **split))  # type: ignore[arg-type]
    metrics = stages.audit(cfg, ctx)
    findings = read_json(ctx.out / "audit.json") or []
    assert metrics["findings"] == len(findings) and (ctx.out / "audit.html").is_file()
    return {f"{line['what']} {line['where']}": line["sentence"] for line in findings}


def test_a_clean_study_has_no_findings(tmp_path: Path) -> None:
    assert audited(tmp_path, study()) == {}
    assert "No findings" in (tmp_path / "run" / "out" / "audit.html").read_text()


def test_the_same_samples_under_two_names(tmp_path: Path) -> None:
    clean = study()
    x = clean[3].signal.signal().data.copy()
    x[128:512] = clean[0].signal.signal().data[:384]  # three trials of another recording, elsewhere in time
    clean[3] = replace(clean[3], signal=Signal(x, SFREQ, CHANNELS).stream())
    findings = audited(tmp_path, clean)
    assert list(findings) == ["copy sub-00 and sub-03"]
    assert findings["copy sub-00 and sub-03"].startswith(
        "3 trials hold the same samples, as sub-00 at 0.00 s and sub-03 at"
    )


def test_the_same_stimulus_and_subject_on_both_sides(tmp_path: Path) -> None:
    recordings = [
        replace(each, trials=tuple(replace(trial, stimulus=f"piece-{k}") for k, trial in enumerate(each.trials)))
        for each in study()
    ]
    findings = audited(tmp_path, recordings, shared=("stimulus",))
    assert "12 stimulus(s) are in both the training set and the test set: piece-0" in findings["leak split by subject"]
    findings = audited(tmp_path / "refused", recordings)
    assert "the same stimulus would be in train and val" in findings["leak split by subject"]


def test_units_off_by_a_million(tmp_path: Path) -> None:
    clean = study()
    clean[2] = replace(clean[2], signal=Signal(clean[2].signal.signal().data * 1e6, SFREQ, CHANNELS).stream())
    clean[4] = changed(clean[4], Pz=clean[4].signal.signal().data[:, 2] * 1e6)
    findings = audited(tmp_path, clean)
    assert set(findings) == {"units sub-02", "units sub-04"}
    assert "e+05 times the others'" in findings["units sub-02"] and "Pz (" in findings["units sub-04"]


@pytest.mark.parametrize("how", ["as it is", "as a carrier"])
def test_sound_among_the_channels(how: str, tmp_path: Path) -> None:
    clean = study()
    envelope = clean[1].targets["envelope"].signal().data[:, 0]
    carrier = np.random.default_rng(9).choice([-1.0, 1.0], len(envelope))
    clean[1] = changed(clean[1], Oz=envelope if how == "as it is" else envelope * carrier)
    findings = audited(tmp_path, clean, target="envelope")
    assert list(findings) == ["sound sub-01"] and "channel Oz follows envelope at r" in findings["sound sub-01"]


def test_a_target_that_is_not_there_is_refused_and_those_that_are_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="target must be one of envelope, side, which sub-00 has, but got 'nonsense'"):
        audited(tmp_path, study(), target="nonsense")


def test_labels_out_of_order(tmp_path: Path) -> None:
    clean = study()
    trials = clean[5].trials
    clean[5] = replace(clean[5], trials=(*trials[6:], *trials[:6]))
    findings = audited(tmp_path, clean)
    assert (
        list(findings) == ["order sub-05"]
        and "trial 7, at 0.00 s, comes after one at 22.00 s" in findings["order sub-05"]
    )


def test_clipped_and_flat_channels(tmp_path: Path) -> None:
    clean = study()
    x = clean[0].signal.signal().data
    clean[0] = changed(clean[0], Fz=np.clip(x[:, 0], -1, 1), Cz=np.full(len(x), 3.0))
    findings = audited(tmp_path, clean)
    assert list(findings) == ["damage sub-00"]
    lines = [line["sentence"] for line in read_json(tmp_path / "run" / "out" / "audit.json") or []]
    assert lines[0] == "flat: Cz" and "Fz (1" in lines[1]


def test_a_class_that_the_recording_tells(tmp_path: Path) -> None:
    clean = [
        replace(each, values={"side": np.full((N_TRIALS, 1), float(index % 2), np.float32)})
        for index, each in enumerate(study())
    ]
    findings = audited(tmp_path, clean)
    assert "the subject alone predicts the class in 100% of the trials" in findings["confound side"]


def test_a_class_that_time_tells(tmp_path: Path) -> None:
    late = (np.arange(N_TRIALS) >= N_TRIALS // 2).astype(np.float32)[:, None]
    findings = audited(tmp_path, [replace(each, values={"side": late}) for each in study()])
    assert "the half of the recording alone predicts the class in 100% of the trials" in findings["confound side"]


def test_ranks_share_the_recordings_and_find_the_same(tmp_path: Path) -> None:
    clean = study()
    clean[2] = replace(clean[2], signal=Signal(clean[2].signal.signal().data * 1e6, SFREQ, CHANNELS).stream())
    audited(tmp_path, clean)
    cfg = Audit(data=(Input(str(tmp_path / "store")),), target="side", split=Split(by="subject"))
    metrics = on_ranks(stages.audit, cfg, tmp_path / "three", 3)
    assert metrics[1] == metrics[2] == {}
    one, three = (read_json(RunDir(tmp_path / run).out / "audit.json") for run in ("run", "three"))
    assert one == three != []

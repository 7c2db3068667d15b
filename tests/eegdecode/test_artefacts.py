"""Bad channels by every sample, components with labels and reasons, a person's decisions, ICLabel, Maxwell filters."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest
from mne.io.constants import FIFF
from scipy.signal import lfilter

from eegdecode import sphere
from eegdecode.data.io import raw
from eegdecode.preprocessing import chains
from eegdecode.preprocessing.artefacts import components, iclabel
from eegdecode.preprocessing.artefacts.components import Components
from eegdecode.preprocessing.steps import ica, maxwell
from eegdecode.preprocessing.steps.bad_channels import BadChannels
from eegdecode.preprocessing.steps.ica import ICA
from eegdecode.preprocessing.steps.maxwell import Maxwell
from eegdecode.preprocessing.steps.set_channels import TEN_TWENTY
from eegdecode.signals import Kind, Sensor, Signal, Stream
from hpc import config
from hpc.errors import ConfigError

# ---- bad channels


def field(sfreq: float, n_s: float) -> Signal:
    """The 10-20 system over a smooth field, with a little noise of each channel's own."""
    rng, known = np.random.default_rng(0), sphere.ten_ten()
    places = np.array([known[name] for name in TEN_TWENTY])
    smooth = rng.normal(size=(round(n_s * sfreq), 4)) @ np.column_stack([np.ones(len(places)), places]).T
    data = 10e-6 * (smooth + 0.05 * rng.normal(size=smooth.shape))
    sensors = {name: Sensor("eeg", tuple(0.095 * place)) for name, place in zip(TEN_TWENTY, places, strict=True)}
    return Signal(data.astype(np.float32), sfreq, TEN_TWENTY, sensors)


def why(signal: Signal, **settings: Any) -> dict[str, str]:
    decisions = chains.apply([BadChannels(**settings)], signal.stream()).decisions
    assert all(channel["decision"] == "interpolated" for channel in decisions.channels)
    return {channel["name"]: channel["reason"] for channel in decisions.channels}


def test_a_single_nan_at_1_khz_is_seen() -> None:
    """Every fourth sample was looked at, so that the store refused the recording later."""
    signal = field(1000.0, 3.0)
    signal.data[1001, 2] = np.nan
    assert why(signal) == {TEN_TWENTY[2]: "not a number in 1 of 3000 samples"}


def test_a_channel_that_is_flat_for_a_while_is_bad() -> None:
    """The median over blocks of 10 s does not see it."""
    signal = field(100.0, 60.0)
    signal.data[1000:1500, 4] = 3e-6
    assert why(signal) == {TEN_TWENTY[4]: "flat for 8 % of the time"}
    assert why(signal, bad_percent=10.0) == {}


def test_all_samples_are_looked_at_in_blocks() -> None:
    signal = field(1000.0, 200.0)
    seen, longest = np.zeros(signal.n_times, bool), [0]

    def read(first: int, stop: int) -> np.ndarray:
        seen[first:stop] = True
        longest.append(stop - first)
        return signal.data[first:stop]

    chains.apply([BadChannels()], replace(signal.stream(), read=read))
    assert seen.all() and max(longest) <= (1 << 20) // signal.n_channels


# ---- components


def mixed(sources: Mapping[str, np.ndarray], sfreq: float, **more: Kind) -> Stream:
    """Sources mixed over 8 electrodes; of those in `more` there is a channel, too."""
    names = TEN_TWENTY[:8]
    mixing = np.random.default_rng(3).normal(size=(len(sources), len(names))) + 0.3
    data = 10e-6 * np.column_stack(list(sources.values())) @ mixing
    watched = [1e-4 * sources[name] for name in more]
    known = sphere.ten_ten()
    sensors = {name: Sensor("eeg", tuple((0.095 * np.array(known[name])).tolist())) for name in names}
    sensors |= {name.upper(): Sensor(kind) for name, kind in more.items()}
    samples = np.column_stack([data, *watched]).astype(np.float32)
    return Signal(samples, sfreq, (*names, *(name.upper() for name in more)), sensors).stream()


@pytest.fixture(scope="module")
def head() -> Stream:
    """A blinking eye, a heart, a muscle, and five sources whose power falls with frequency."""
    sfreq, n_s = 200.0, 30
    rng = np.random.default_rng(1)
    n = round(sfreq * n_s)
    blink = np.zeros(n)
    for k in range(4):
        blink[300 + 1400 * k :][:60] += 12 * np.hanning(60)
    beat = np.zeros(n)
    for k in range(30):
        beat[100 + 190 * k :][:10] += 8 * np.hanning(10)
    white = rng.normal(size=n)
    muscle = 3 * np.diff(white, prepend=0)
    sources = {"eog": blink, "ecg": beat, "muscle": muscle}
    for k in range(5):  # each waxes and wanes, by which ICA tells them apart
        wave = 1 + np.sin(2 * np.pi * (0.2 + 0.13 * k) * np.arange(n) / sfreq)
        sources[f"brain{k}"] = wave * lfilter([0.3], [1, -0.9], rng.normal(size=n))
    return mixed({name: s + 0.02 * rng.normal(size=n) for name, s in sources.items()}, sfreq, eog="eog", ecg="ecg")


@pytest.fixture(scope="module")
def of_head(head: Stream) -> tuple[Mapping[str, Any], ...]:
    return records(ICA(), head)


def records(cfg: ICA, stream: Stream) -> tuple[Mapping[str, Any], ...]:
    return chains.apply([cfg], stream).decisions.components


def test_each_component_has_its_label_and_reasons_map_and_spectrum(of_head: tuple[Mapping[str, Any], ...]) -> None:
    by_label = {record["label"]: record for record in of_head}
    assert set(by_label) == {"eog", "ecg", "muscle", "brain"}
    assert by_label["eog"]["reasons"][0].startswith("follows EOG, r = ")
    assert by_label["ecg"]["reasons"][0].startswith("follows ECG, r = ")
    assert by_label["muscle"]["reasons"][0].startswith("power rises from 7 to 45 Hz as that of a muscle, slope +")
    assert sorted(r["label"] for r in of_head if r["decision"] == "drop") == ["ecg", "eog"]
    assert all(set(record["map"]) == set(TEN_TWENTY[:8]) for record in of_head)
    spectrum = by_label["muscle"]["spectrum"]
    assert len(spectrum["hz"]) == len(spectrum["db"]) and 50 < spectrum["hz"][int(np.argmax(spectrum["db"]))] <= 60
    assert sum(record["variance"] for record in of_head) == pytest.approx(1, abs=0.01)


def test_labels_that_are_named_go_and_others_stay(head: Stream) -> None:
    of_head = records(ICA(remove=("muscle",)), head)
    assert [r["label"] for r in of_head if r["decision"] == "drop"] == ["muscle"]


def test_a_peak_at_the_mains_and_a_channel_alone_are_reasons() -> None:
    hz = np.arange(0, 100, 0.5)
    power = np.stack([1 / (1 + hz), 1 / (1 + hz)])
    power[0, hz == 50] = 10
    of = Components(("A", "B"), np.eye(2), np.array([[1.0, 0.1], [0.8, 1.0]]), np.ones(2))
    mains, alone = components.judged(ICA(), of, np.random.default_rng(0).normal(size=(500, 2)), {}, (), (hz, power))
    assert mains.labels == ["line_noise"] and mains.reasons[0].startswith("a peak at 50 Hz, 27 dB above")
    assert (alone.labels, alone.reasons) == (["ch_noise"], ["B alone"])


def test_what_a_person_decided_wins(head: Stream, of_head: tuple[Mapping[str, Any], ...], tmp_path: Path) -> None:
    before = of_head
    (eye,) = (r for r in before if r["label"] == "eog")
    brain = next(r for r in before if r["label"] == "brain")
    table = tmp_path / "components.tsv"
    table.write_text(
        "recording\tcomponent\tfingerprint\tdecision\n"
        f"a\t{eye['index']}\t{eye['fingerprint']}\tkeep\na\t{brain['index']}\t\tdrop\nb\t0\t\tdrop\n"
    )
    mine = replace(head, recording="a")
    after = {r["index"]: r for r in records(ICA(components=config.InputFile(str(table))), mine)}
    assert (after[eye["index"]]["decision"], after[eye["index"]]["decided_by"]) == ("keep", "person")
    assert (after[brain["index"]]["decision"], after[brain["index"]]["decided_by"]) == ("drop", "person")
    others = {r["index"] for r in before} - {eye["index"], brain["index"]}
    assert all(after[index]["decision"] == before[index]["decision"] for index in others)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recording\tcomponent\na\t1\n", "has no column decision: a TSV needs recording, component and decision"),
        ("recording\tcomponent\tdecision\na\t1\tno\n", "line 2 of .* has component '1' and decision 'no'"),
        ("recording\tcomponent\tdecision\na\t1\tkeep\na\t1\tdrop\n", "line 3 of .* component 1 of a again"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "c.tsv").write_text(text)
    with pytest.raises(ValueError, match=message):
        components.decided_by_a_person(tmp_path / "c.tsv", "a")


def test_decisions_about_other_components_than_these_are_refused() -> None:
    of = Components(("A", "B"), np.eye(2), np.eye(2), np.ones(2))
    sources = np.random.default_rng(0).normal(size=(9, 2))
    known = [components.Judged(index, 0.0, None, [0.0], [0.0]) for index in range(2)]
    with pytest.raises(ValueError, match="decided about component 99, but there are 2 here"):
        components.records(known, of, sources, {99: ("drop", "")}, ())
    with pytest.raises(ValueError, match="component 1 is not the one that a person"):
        components.records(known, of, sources, {1: ("drop", "0")}, ())


def test_the_digest_of_a_table_is_part_of_the_setting_and_another_file_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "c.tsv"
    table.write_text("one")
    cfg = ICA(components=config.InputFile(str(table)))
    one = config.with_digests((cfg,))[0]
    assert one.components.startswith(f"{table}#sha256=") and config.with_digests(one) is one
    assert config.input_file(one.components) == table
    table.write_text("another")
    assert config.with_digests(cfg).components != one.components
    with pytest.raises(ValueError, match="is not the file any more with which the run was planned"):
        config.input_file(one.components)
    table.unlink()
    with pytest.raises(ConfigError, match=r"preprocess\.components is .*c\.tsv, but there is no such file"):
        config.with_digests(cfg, "preprocess")


def test_iclabel_labels_come_first_and_its_absence_is_one_sentence(
    head: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mne_icalabel")
    by_network = records(ICA(labels="iclabel", proba=0.3), head)
    assert any(r["reasons"] and r["reasons"][0].startswith("ICLabel: ") for r in by_network)
    assert by_network == records(ICA(labels="iclabel", proba=0.3), head)
    monkeypatch.setitem(sys.modules, "mne_icalabel.iclabel", None)
    with pytest.raises(ValueError, match="needs the package mne-icalabel, which is not installed: pip install"):
        records(ICA(labels="iclabel"), head)


def test_our_components_are_those_of_mne(head: Stream) -> None:
    """What ICLabel sees: activations and maps through mne's ICA object are our own."""
    rng = np.random.default_rng(0)
    unmixing = rng.normal(size=(8, 8))
    of = Components(TEN_TWENTY[:8], unmixing, np.linalg.inv(unmixing), np.full(8, 2e-5))
    signal = iclabel._raw(head, of)
    model = iclabel._ica(signal, of)
    sources = unmixing @ (signal.get_data() / 2e-5)
    np.testing.assert_allclose(model.get_sources(signal).get_data(), sources, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(model.get_components(), of.mixing, rtol=1e-6)


# ---- Maxwell


@pytest.fixture(scope="module")
def helmet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 magnetometers on a half sphere, one of them bad, 11 s at 100 Hz."""
    rng = np.random.default_rng(0)
    n, sfreq = 40, 100.0
    z = 1 - 0.9 * np.arange(n) / n
    turn = np.arange(n) * np.pi * (3 - 5**0.5)
    places = 0.11 * np.column_stack([np.sqrt(1 - z**2) * np.cos(turn), np.sqrt(1 - z**2) * np.sin(turn), z])
    info = mne.create_info([f"MEG{k:03d}" for k in range(n)], sfreq, "mag")
    for coil, place in zip(info["chs"], places, strict=True):
        out = place / np.linalg.norm(place)
        across = np.cross(out, np.eye(3)[np.abs(out).argmin()])
        across /= np.linalg.norm(across)
        coil["loc"][:12] = [*place, *across, *np.cross(out, across), *out]
        coil["coil_type"], coil["coord_frame"] = FIFF.FIFFV_COIL_VV_MAG_T3, FIFF.FIFFV_COORD_DEVICE
    with info._unlock():
        info["dev_head_t"] = mne.transforms.Transform("meg", "head", np.eye(4))
        info["bads"] = ["MEG003"]
    path = tmp_path_factory.mktemp("helmet") / "helmet_meg.fif"
    mne.io.RawArray(1e-12 * rng.normal(size=(n, 1100)), info, verbose="error").save(path, verbose="error")
    return path


def opened(path: Path) -> Stream:
    found = raw.open(path)
    return replace(found.stream, bads=tuple(found.bads))


SMALL = {"origin": (0.0, 0.0, 0.02), "int_order": 3, "ext_order": 1}


@pytest.mark.parametrize("st_duration", [0.0, 3.0])
def test_in_blocks_it_is_what_mne_makes_of_the_whole_file(
    st_duration: float, helmet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maxwell, "CHUNK_VALUES", 40 * 300)  # one window at a time
    stream = opened(helmet)
    after = maxwell.apply(Maxwell(st_duration=st_duration, **SMALL), stream, ())  # type: ignore[arg-type]
    starts = range(0, stream.n_times, 170)
    mine = np.concatenate([after.read(first, min(first + 170, stream.n_times)) for first in starts]).T
    whole = mne.preprocessing.maxwell_filter(
        mne.io.read_raw(helmet, verbose="error"), st_duration=st_duration or None, st_overlap=False, verbose="error",
        **SMALL,
    ).get_data()  # fmt: skip
    assert np.abs(mine - whole).max() < 1e-6 * np.abs(whole).max()
    assert after.decisions.channels[0] == {
        "name": "MEG003", "decision": "reconstructed", "reason": "the recording says so",
    }  # fmt: skip
    assert stream.unrepaired == ("MEG003",) and after.unrepaired == ()


def test_what_maxwell_lacks_is_said_in_a_sentence(helmet: Path) -> None:
    stream = opened(helmet)
    with pytest.raises(ValueError, match="no digitised points.*set maxwell.origin"):
        maxwell.apply(Maxwell(), stream, ())
    lost = stream.info.copy()
    with lost._unlock():
        lost["dev_head_t"] = None
    with pytest.raises(ValueError, match="needs the position of the head, which is not in the file"):
        maxwell.apply(Maxwell(), replace(stream, info=lost), ())
    with pytest.raises(ValueError, match="maxwell needs the coils, which are not known of MEG000"):
        maxwell.apply(Maxwell(), replace(stream, info=None), ())
    eeg = Signal(np.zeros((10, 1), np.float32), 100.0, ("Cz",)).stream()
    with pytest.raises(ValueError, match="this recording has no magnetometer or gradiometer: leave it out"):
        maxwell.apply(Maxwell(), eeg, ())
    with pytest.raises(ValueError, match="there is no file gone.dat"):
        maxwell.apply(Maxwell(calibration=config.InputFile("gone.dat"), **SMALL), stream, ())  # type: ignore[arg-type]


def test_ica_of_several_kinds_still_removes_what_it_should(head: Stream) -> None:
    """The matrix that removes components leaves the watched channels as they are."""
    found = ica.find(ICA(), head)
    assert found.removed and np.array_equal(found.matrix[8:, 8:], np.eye(2)) and not found.matrix[:8, 8:].any()

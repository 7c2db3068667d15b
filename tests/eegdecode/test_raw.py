"""Every format is read as it was written: all channels with kinds and positions, any range, events in time."""

import datetime
import warnings
from pathlib import Path

import mne
import numpy as np
import pytest
import scipy.io

from eegdecode.data.io import raw
from eegdecode.signals import Signal, Stream
from eegdecode.synth.formats import write_brainvision, write_edf

SFREQ = 250.0
NAMES = ("Cz", "VEOG", "dead", "Oz")


@pytest.fixture
def signal() -> Signal:
    rng = np.random.default_rng(0)
    data = rng.normal(size=(8 * 250, 4)) * (20e-6, 300e-6, 0.0, 4e-6)
    return Signal(data, SFREQ, NAMES)


@pytest.fixture(autouse=True)
def nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> object:
    """What mne wants to say becomes a note or an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""


def of_mne(
    signal: Signal, kinds: tuple[str, ...] = ("eeg", "eog", "eeg", "eeg"), first_samp: int = 0
) -> mne.io.RawArray:
    info = mne.create_info(list(signal.channels), signal.sfreq, list(kinds))
    return mne.io.RawArray(signal.data.T, info, first_samp=first_samp, verbose="error")


def is_read_anyhow(stream: Stream, expected: np.ndarray, atol: float) -> None:
    """The whole, and stretches in any order, are the same numbers, as float32."""
    whole = stream.read(0, stream.n_times)
    assert whole.dtype == np.float32 and whole.shape == expected.shape
    np.testing.assert_allclose(whole, expected, atol=atol)
    for first, stop in ((1999, 2000), (0, 1), (700, 1300), (3, 999)):
        np.testing.assert_array_equal(stream.read(first, stop), whole[first:stop])


def test_edf_and_brainvision(tmp_path: Path, signal: Signal) -> None:
    write_edf(tmp_path / "a.edf", signal)
    write_brainvision(tmp_path / "a.vhdr", signal)
    for name, atol in (("a.edf", 2e-8), ("a.vhdr", 1e-12)):
        opened = raw.open(tmp_path / name)
        assert (opened.stream.channels, opened.stream.sfreq) == (NAMES, SFREQ)
        is_read_anyhow(opened.stream, signal.data, atol)
        assert [opened.stream.sensor(name).kind for name in NAMES] == ["eeg", "eog", "eeg", "eeg"]
        assert opened.kinds_by == {"VEOG": "its name"}


def test_fif_with_every_kind_positions_bads_and_mains(tmp_path: Path) -> None:
    kinds = ("eeg", "mag", "grad", "ecog", "seeg", "dbs", "eog", "ecg", "emg", "stim", "misc", "ref_meg", "resp")
    names = tuple(f"{kind}1" for kind in kinds)
    raw_mne = of_mne(Signal(np.random.default_rng(1).normal(size=(500, len(kinds))) * 1e-6, SFREQ, names), kinds)
    for channel in raw_mne.info["chs"]:
        channel["loc"][:3] = (0.01, 0.09, 0.05)
    turned = np.eye(4)
    turned[:3, 3] = (0.0, 0.0, 0.04)
    with raw_mne.info._unlock():
        raw_mne.info["dev_head_t"] = mne.transforms.Transform("meg", "head", turned)
        raw_mne.info["line_freq"] = 60.0
    raw_mne.info["bads"] = ["mag1"]
    raw_mne.save(tmp_path / "a_raw.fif", verbose="error")
    opened = raw.open(tmp_path / "a_raw.fif")
    expected = ["eeg", "mag", "grad", "ecog", "seeg", "seeg", "eog", "ecg", "emg", "stim", "misc", "misc", "misc"]
    assert [opened.stream.sensor(name).kind for name in names] == expected
    assert opened.stream.sensor("eeg1").position == pytest.approx((0.01, 0.09, 0.05))
    assert opened.stream.sensor("mag1").position == pytest.approx((0.01, 0.09, 0.09)), (
        "of the helmet, moved to the head"
    )
    assert (opened.line_hz, opened.bads) == (60.0, {"mag1": "marked bad in the file"})
    assert opened.notes == ("kept as misc: channels of type ref_meg, resp",)


@pytest.mark.parametrize("dated", [False, True])
def test_annotations_count_from_the_first_sample(tmp_path: Path, signal: Signal, dated: bool) -> None:
    raw_mne = of_mne(signal, first_samp=500)  # 2 s were not kept
    if dated:
        raw_mne.set_meas_date(datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))
    raw_mne.set_annotations(
        mne.Annotations(3.0 if not dated else 5.0, 0.5, "song", orig_time=raw_mne.info["meas_date"])
    )
    raw_mne.save(tmp_path / "a_raw.fif", verbose="error")
    (annotation,) = raw.open(tmp_path / "a_raw.fif").annotations
    assert (annotation.onset_s, annotation.duration_s, annotation.text) == (3.0, 0.5, "song")


def test_a_split_fif_is_one_recording(tmp_path: Path, signal: Signal) -> None:
    long = Signal(np.tile(signal.data, (60, 1)), SFREQ, NAMES)
    of_mne(long).save(tmp_path / "a_raw.fif", split_size="2MB", verbose="error")
    assert len(list(tmp_path.iterdir())) == 2
    opened = raw.open(tmp_path / "a_raw.fif")
    assert opened.stream.n_times == 120_000
    is_read_anyhow(opened.stream, long.data, 1e-10)
    (tmp_path / "a_raw-1.fif").unlink()
    with pytest.raises(
        ValueError, match=r"a_raw\.fif is the first of several parts, a later one is not there: fetch all"
    ):
        raw.open(tmp_path / "a_raw.fif")


def test_a_packed_fif_is_the_same(tmp_path: Path, signal: Signal) -> None:
    of_mne(signal).save(tmp_path / "a_raw.fif.gz", verbose="error")
    is_read_anyhow(raw.open(tmp_path / "a_raw.fif.gz").stream, signal.data, 1e-10)


def test_trials_that_others_cut_stand_one_after_the_other(tmp_path: Path, signal: Signal) -> None:
    trials = signal.data.reshape(8, 250, 4).transpose(0, 2, 1)
    info = mne.create_info(list(NAMES), SFREQ, "eeg")
    events = np.column_stack([np.arange(8) * 1000, np.zeros(8, int), [1, 2] * 4])
    cut = mne.EpochsArray(trials, info, events, tmin=-0.2, event_id={"left": 1, "right": 2}, verbose="error")
    cut.save(tmp_path / "a-epo.fif", verbose="error")
    opened = raw.open(tmp_path / "a-epo.fif")
    is_read_anyhow(opened.stream, signal.data, 1e-10)
    assert opened.trial_edges == tuple(range(250, 2000, 250))
    assert [(a.onset_s, a.text) for a in opened.annotations[:3]] == [(0.2, "left"), (1.2, "right"), (2.2, "left")]


def eeglab(path: Path, signal: Signal, n_trials: int, samples: str) -> None:
    """Write as EEGLAB does: samples in the struct, or next to it in .fdt."""
    n_times = signal.n_times // n_trials
    data = signal.data.T * 1e6
    if samples:
        (path.parent / samples).write_bytes(data.T.astype("<f4").tobytes())
    shaped = data.reshape(4, n_trials, n_times).transpose(0, 2, 1) if n_trials > 1 else data
    labels = np.array([(name,) for name in signal.channels], dtype=[("labels", object)])
    events = [("go", 1.0 + k * n_times, 0.0, k + 1) for k in range(n_trials)]
    fields = {
        "setname": "a",
        "filename": path.name,
        "filepath": "",
        "nbchan": 4,
        "trials": n_trials,
        "pnts": n_times,
        "srate": SFREQ,
        "xmin": 0.0,
        "xmax": (n_times - 1) / SFREQ,
        "times": np.arange(n_times) / SFREQ * 1e3,
        "data": samples or shaped,
        "chanlocs": labels,
        "event": np.array(
            events, dtype=[("type", object), ("latency", object), ("duration", object), ("epoch", object)]
        ),
        "epoch": np.array(
            [(k + 1, "go", 0.0) for k in range(n_trials)],
            dtype=[("event", object), ("eventtype", object), ("eventlatency", object)],
        ),
    }
    scipy.io.savemat(path, {"EEG": fields}, appendmat=False, oned_as="row")


@pytest.mark.parametrize("samples", ["", "a.fdt"])
def test_eeglab_within_the_file_and_beside_it(tmp_path: Path, signal: Signal, samples: str) -> None:
    eeglab(tmp_path / "a.set", signal, 1, samples)
    opened = raw.open(tmp_path / "a.set")
    is_read_anyhow(opened.stream, signal.data, 1e-10)
    assert [(a.onset_s, a.text) for a in opened.annotations] == [(0.0, "go")]
    assert opened.stream.sensor("VEOG").kind == "eog"


def test_eeglab_cut_into_trials(tmp_path: Path, signal: Signal) -> None:
    eeglab(tmp_path / "a.set", signal, 8, "")
    opened = raw.open(tmp_path / "a.set")
    is_read_anyhow(opened.stream, signal.data, 1e-10)
    assert opened.trial_edges == tuple(range(250, 2000, 250)) and len(opened.annotations) == 8


def edf_of_rates(path: Path, rates: dict[str, int], seconds: int, hz: float) -> None:
    """A sine of `hz` in each channel, as an EDF with a rate for each, which no other tool writes."""
    n = len(rates)
    fields = [(8, "0"), (80, "X X X X"), (80, "X"), (8, "01.01.25"), (8, "00.00.00"), (8, 256 * (1 + n)), (44, "")]
    fields += [(8, seconds), (8, 1), (4, n), *((16, name) for name in rates), *((80, "") for _ in rates)]
    for width, value in ((8, "uV"), (8, -100), (8, 100), (8, -32768), (8, 32767), (80, "")):
        fields += [(width, value)] * n
    fields += [(8, rate) for rate in rates.values()] + [(32, "")] * n
    header = b"".join(str(value).ljust(width).encode() for width, value in fields)
    records = [
        np.rint(25_000 * np.sin(2 * np.pi * hz * (second + np.arange(rate) / rate))).astype("<i2").tobytes()
        for second in range(seconds)
        for rate in rates.values()
    ]
    path.write_bytes(header + b"".join(records))


def test_edf_of_unlike_rates_is_the_same_wherever_a_stretch_begins(tmp_path: Path) -> None:
    edf_of_rates(tmp_path / "a.edf", {"Cz": 200, "slow": 50, "Oz": 200}, 20, hz=3.0)
    opened = raw.open(tmp_path / "a.edf")
    stream = opened.stream
    whole = stream.read(0, 4000)
    np.testing.assert_array_equal(stream.read(1234, 2345), whole[1234:2345])
    assert stream.channels == ("Cz", "slow", "Oz") and opened.notes == (
        "1 channels have a lower rate and were interpolated to 200 Hz: slow",
    )
    inside = slice(100, -100)
    assert np.abs(whole[inside, 1] - whole[inside, 0]).max() < 0.002 * np.abs(whole).max()


def test_bdf_of_24_bits_with_a_status_channel(tmp_path: Path) -> None:
    n, seconds, rate = 2, 4, 256
    digital = np.random.default_rng(0).integers(-(2**23), 2**23, (seconds, rate))
    codes = np.zeros((seconds, rate), int)
    codes[1, 7:20] = 42
    fields = [(80, "X X X X"), (80, "X"), (8, "01.01.25"), (8, "00.00.00"), (8, 256 * (1 + n)), (44, "24BIT")]
    fields += [(8, seconds), (8, 1), (4, n), (16, "Cz"), (16, "Status"), (80, ""), (80, ""), (8, "uV"), (8, "Boolean")]
    fields += [(8, -262144), (8, -8388608), (8, 262144), (8, 8388607), *[(8, -8388608)] * 2, *[(8, 8388607)] * 2]
    fields += [(80, ""), (80, ""), (8, rate), (8, rate), (32, ""), (32, "")]
    header = b"\xffBIOSEMI" + b"".join(str(value).ljust(width).encode() for width, value in fields)
    bits = np.stack([digital, codes], axis=1).astype("<i4")[..., None].view("u1").reshape(-1, 4)[:, :3]
    (tmp_path / "a.bdf").write_bytes(header + bits.tobytes())
    stream = raw.open(tmp_path / "a.bdf").stream
    assert [stream.sensor(name).kind for name in stream.channels] == ["eeg", "stim"] and stream.n_times == 1024
    np.testing.assert_array_equal(stream.read(0, 1024)[:, 1], codes.ravel())
    np.testing.assert_allclose(stream.read(0, 1024)[:, 0] * 1e6, digital.ravel() / 32, atol=0.05)


def test_reading_takes_memory_for_a_stretch_not_for_the_file(tmp_path: Path) -> None:
    import tracemalloc

    write_brainvision(
        tmp_path / "a.vhdr", Signal(np.zeros((400_000, 16), np.float32), 1000.0, tuple("abcdefghijklmnop"))
    )
    stream = raw.open(tmp_path / "a.vhdr").stream
    stream.read(0, 1000)
    tracemalloc.start()
    whole = stream.read(0, 400_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert whole.nbytes == 25_600_000 and peak < whole.nbytes + 4 * 8 * raw.STRETCH_VALUES, "no float64 copy of it all"


def test_what_ends_while_it_is_read_is_an_error_not_zeros(tmp_path: Path, signal: Signal) -> None:
    for name in ("a_raw.fif", "a.edf"):
        path = tmp_path / name
        of_mne(signal).save(path, verbose="error") if name.endswith("fif") else write_edf(path, signal)
        stream = raw.open(path).stream
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(ValueError, match=f"{name} is cut off or damaged"):
            stream.read(0, stream.n_times)

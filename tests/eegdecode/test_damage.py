"""Each kind of damage is produced here and detected: one sentence names the file, the cause and the remedy."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import mne
import numpy as np
import pytest
import scipy.io

from eegdecode.data.io import damage, raw, samples
from eegdecode.signals import Kind, Sensor, Signal
from eegdecode.synth.formats import write_brainvision, write_edf

rng = np.random.default_rng(0)
SIGNAL = Signal(rng.normal(size=(20 * 250, 4)) * 20e-6, 250.0, ("Fz", "Cz", "Pz", "Oz"))


def edf(folder: Path) -> Path:
    write_edf(folder / "a.edf", SIGNAL)
    return folder / "a.edf"


def vhdr(folder: Path) -> Path:
    write_brainvision(folder / "a.vhdr", SIGNAL)
    return folder / "a.vhdr"


def fif(folder: Path) -> Path:
    info = mne.create_info(list(SIGNAL.channels), SIGNAL.sfreq, "eeg")
    mne.io.RawArray(SIGNAL.data.T, info, verbose="error").save(folder / "a_raw.fif", verbose="error")
    return folder / "a_raw.fif"


def con(folder: Path) -> Path:
    """No more than the table of contents of a KIT file, whose last block is 1000 bytes of samples."""
    blocks = [(0, 16, 32, 32)] + [(512, 8, 1, 1)] * 8 + [(520, 1000, 1, 1)] + [(512, 0, 0, 0)] * 22
    header = b"".join(struct.pack("<Iiii", *block) for block in blocks)
    (folder / "a.con").write_bytes(header + struct.pack("<ii", 1, 0) + bytes(1000))
    return folder / "a.con"


def ds(folder: Path) -> Path:
    (folder / "a.ds").mkdir()
    (folder / "a.ds/a.res4").write_bytes(b"MEG42RS\0")
    return folder / "a.ds"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-777])


def become(content: bytes) -> Callable[[Path], None]:
    return lambda path: void(path.write_bytes(content))


def void(_: object) -> None:
    """The result is not wanted."""


def through_text(path: Path) -> None:
    """LF to CR LF, and then the size made right again."""
    before = path.read_bytes()
    path.write_bytes(before.replace(b"\n", b"\r\n")[: len(before)])


def through_utf8(path: Path) -> None:
    """Read as UTF-8 with a mark for what is none, and the size made right again."""
    before = path.read_bytes()
    path.write_bytes(before.decode("utf-8", "replace").encode()[: len(before)])


def through_latin(path: Path) -> None:
    path.write_bytes(path.read_bytes().decode("latin-1").encode())


def header(at: int, text: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        before = path.read_bytes()
        path.write_bytes(before[:at] + text.ljust(8).encode() + before[at + 8 :])

    return write


def text(old: str, new: str) -> Callable[[Path], None]:
    return lambda path: void(path.write_text(path.read_text().replace(old, new)))


def without(name: str) -> Callable[[Path], None]:
    return lambda path: path.with_name(name).unlink()


def named(name: str) -> Callable[[Path], None]:
    return lambda path: void(path.rename(path.with_name(name)))


def annex(path: Path) -> None:
    path.unlink()
    path.symlink_to("../.git/annex/objects/xx/SHA256E-s1--1.edf")


def shift_header(path: Path) -> None:
    before = path.read_bytes()
    path.write_bytes(before[:100] + b"\r" + before[100:])


def sparse(size: int) -> Callable[[Path], None]:
    def cut_samples(path: Path) -> None:
        samples = path.with_suffix(".eeg")
        samples.write_bytes(samples.read_bytes()[:size])

    return cut_samples


HTML = b"<!DOCTYPE html>\n<html><body>Please log in</body></html>"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 123456\n"

DAMAGED: list[tuple[Callable[[Path], Path], Callable[[Path], None], str]] = [
    (edf, cut, r"a\.edf is cut off: its header tells of 20 records of 1 s, 19\.6 are there: fetch it again"),
    (edf, become(b""), r"a\.edf is empty \(0 bytes\): fetch it again"),
    (edf, lambda path: void(path.write_bytes(path.read_bytes()[:300])), r"cut off within its header \(300 bytes"),
    (edf, through_text, r"a\.edf had its line feeds translated to CR LF \(all \d+ of them\), as text"),
    (
        edf,
        through_utf8,
        r"a\.edf was re-encoded as UTF-8 .*, and \d+ bytes or more became a replacement mark: the samples",
    ),
    (
        edf,
        through_latin,
        r"a\.edf was re-encoded as UTF-8 text on its way: the samples are lost; fetch it again, in binary",
    ),
    (edf, header(252, "7"), r"a\.edf has a shifted header: .* '7' channels: fetch it again, in binary mode"),
    (edf, shift_header, r"a\.edf has a shifted header: it says '\d+' header bytes, '20' records"),
    (edf, header(244, "0"), r"a\.edf has records of 0 s and 2000 bytes, so no rate: ask for a new export"),
    (edf, become(HTML), r"a\.edf is a web page, not data: the download asked for a login or failed"),
    (
        edf,
        become(LFS),
        r"a\.edf is only a pointer of Git LFS, the data \(123,456 bytes\) were not fetched: git lfs pull",
    ),
    (
        edf,
        become(b"/annex/objects/SHA256E-s1--1.edf\n"),
        r"a\.edf is only a pointer of git-annex, .*: git annex get it",
    ),
    (edf, annex, r"a\.edf is a link to data that were not fetched: git annex get"),
    (
        edf,
        become(b"MATLAB 5.0 MAT-file, made by"),
        r"a\.edf is called \.edf but is MATLAB inside: rename it to end in \.mat",
    ),
    (edf, become(b"PK\x03\x04aaaa"), r"a\.edf is called \.edf but is zip inside: unpack it"),
    (
        edf,
        become(bytes(range(9, 99))),
        r"a\.edf does not begin as EDF does but with .*: it is something else or damaged",
    ),
    (edf, lambda path: path.unlink(), r"a\.edf does not exist: check the spelling, or fetch it"),
    (vhdr, sparse(5001), r"a\.vhdr does not fit a\.eeg: 5001 bytes are 312\.56 samples of 4 channels in IEEE_FLOAT_32"),
    (vhdr, without("a.eeg"), r"a\.vhdr needs a\.eeg for its samples, which is not there: fetch it and put it beside"),
    (
        vhdr,
        text("DataFile=a.eeg", "DataFile=old.eeg"),
        r"needs old\.eeg, .*; a\.eeg is: if .* renamed, write DataFile=a\.eeg",
    ),
    (
        vhdr,
        text("SamplingInterval=4000", "SamplingInterval=0"),
        r"a\.vhdr says SamplingInterval=0, so no rate: write it",
    ),
    (
        vhdr,
        text("NumberOfChannels=4", "NumberOfChannels=5"),
        r"a\.vhdr says NumberOfChannels=5 but lists 4 channels: correct",
    ),
    (
        vhdr,
        lambda path: through_text(path.with_suffix(".eeg")),
        r"a\.vhdr needs a\.eeg, which had its line feeds translated",
    ),
    (fif, cut, r"a_raw\.fif is cut off: the block at byte \d+ goes beyond its end at \d+: fetch it again"),
    (fif, through_utf8, r"a_raw\.fif was re-encoded as UTF-8"),
    (con, cut, r"a\.con is cut off: its table of contents tells of 1520 bytes, 743 are there: fetch it again"),
    (
        con,
        lambda path: void(path.write_bytes(path.read_bytes()[:100])),
        r"a\.con is cut off within its table of contents",
    ),
    (ds, lambda path: None, r"a\.ds lacks a\.meg4: fetch the whole folder again"),
]


@pytest.mark.parametrize(("make", "harm", "sentence"), DAMAGED)
def test_a_damage_is_recognised(
    tmp_path: Path, make: Callable[[Path], Path], harm: Callable[[Path], None], sentence: str
) -> None:
    path = make(tmp_path)
    if make in (edf, vhdr, fif):
        raw.open(path)
    assert not damage.of_file(path) or make is ds
    harm(path)
    with pytest.raises(ValueError, match=sentence) as error:
        raw.open(path)
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    ("size", "sentence"),
    [
        (None, r"a\.set needs a\.fdt for its samples, which is not there: fetch it and put it beside"),
        (7001, r"a\.fdt is cut off: a\.set promises 8000 bytes, it has 7001: fetch both again"),
        (9000, r"a\.fdt belongs to another header: a\.set promises 8000 bytes, it has 9000: fetch both again"),
    ],
)
def test_an_eeglab_recording_needs_all_of_its_fdt(tmp_path: Path, size: int | None, sentence: str) -> None:
    labels = np.array([("Fz",), ("Cz",)], dtype=[("labels", object)])
    sizes = {"nbchan": 2, "trials": 1, "pnts": 1000, "srate": 250.0, "xmin": 0.0, "xmax": 3.996}
    none = np.array([])
    struct_of = {"data": "a.fdt", "chanlocs": labels, "event": none, "epoch": none, "setname": "a", **sizes}
    scipy.io.savemat(tmp_path / "a.set", {"EEG": struct_of}, appendmat=False)
    if size is not None:
        (tmp_path / "a.fdt").write_bytes(bytes(size))
    with pytest.raises(ValueError, match=sentence):
        raw.open(tmp_path / "a.set")


def edf_plus_d(path: Path, onsets: tuple[int, ...]) -> None:
    """Records of 1 s, which begin when their annotation says."""
    fields: list[tuple[int, object]] = [
        (8, 0),
        (80, "X X X X"),
        (80, "Startdate X X X X"),
        (8, "01.01.25"),
        (8, "00.00.00"),
    ]
    fields += [(8, 768), (44, "EDF+D"), (8, len(onsets)), (8, 1), (4, 2), (16, "Cz"), (16, "EDF Annotations")]
    fields += [(80, ""), (80, ""), (8, "uV"), (8, ""), (8, -100), (8, -1), (8, 100), (8, 1), *[(8, -32768)] * 2]
    fields += [*[(8, 32767)] * 2, (80, ""), (80, ""), (8, 100), (8, 20), (32, ""), (32, "")]
    records = [bytes(200) + f"+{onset}\x14\x14\0".encode().ljust(40, b"\0") for onset in onsets]
    path.write_bytes(b"".join(str(v).ljust(w).encode() for w, v in fields) + b"".join(records))


def test_an_edf_with_pauses_is_not_closed_up(tmp_path: Path) -> None:
    edf_plus_d(tmp_path / "a.edf", (0, 1, 2, 3))
    assert raw.open(tmp_path / "a.edf").stream.n_times == 400
    edf_plus_d(tmp_path / "a.edf", (0, 1, 60, 61))
    with pytest.raises(ValueError, match=r"a\.edf is a recording with 1 pauses \(EDF\+D\), the first before 60 s"):
        raw.open(tmp_path / "a.edf")


def test_another_format_under_a_name_is_told(tmp_path: Path) -> None:
    for make, name, sentence in (
        (edf, "b.bdf", r"b\.bdf is called \.bdf but is EDF inside: rename it to end in \.edf"),
        (fif, "b.edf", r"b\.edf is called \.edf but is FIF inside: rename it to end in \.fif"),
        (con, "b.fif", r"b\.fif is called \.fif but is KIT inside: rename it to end in \.con"),
    ):
        named(name)(make(tmp_path))
        with pytest.raises(ValueError, match=sentence):
            raw.open(tmp_path / name)


def test_what_is_only_a_part_names_the_whole(tmp_path: Path) -> None:
    vhdr(tmp_path)
    for name in ("a.eeg", "a.vmrk"):
        with pytest.raises(ValueError, match=rf"{name} is a part of a\.vhdr: open that"):
            raw.open(tmp_path / name)


def test_what_is_no_recording_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.elp").write_text("x")
    (tmp_path / "a.json").write_text(json.dumps({}))
    (tmp_path / "a.xyzw").write_text("x")
    for name, sentence in (
        ("elp", "positions of electrodes"),
        ("json", "is text"),
        ("xyzw", "no format that holds EEG"),
    ):
        with pytest.raises(ValueError, match=sentence):
            raw.open(tmp_path / f"a.{name}")
    mne.write_trans(tmp_path / "a-trans.fif", mne.transforms.Transform("head", "mri"), verbose="error")
    with pytest.raises(ValueError, match=r"a-trans\.fif holds no recording: transforms, head shapes"):
        raw.open(tmp_path / "a-trans.fif")


def test_a_recording_that_was_not_ended_properly_is_read_with_a_note(tmp_path: Path) -> None:
    path = edf(tmp_path)
    for says, expected in (
        ("-1", "its header does not say how long it is"),
        ("12", "its header tells of 12 records only"),
    ):
        header(236, says)(path)
        opened = raw.open(path)
        assert opened.stream.n_times == 20 * 250
        (note,) = opened.notes
        assert "a.edf was not ended properly" in note and expected in note and "the 20 records" in note


def test_missing_markers_are_noted_not_lost(tmp_path: Path) -> None:
    path = vhdr(tmp_path)
    path.with_suffix(".vmrk").unlink()
    assert any("names its markers a.vmrk, which is not there" in note for note in raw.open(path).notes)


def kinds(of: Signal, kind: Kind) -> Signal:
    return Signal(of.data, of.sfreq, of.channels, {name: Sensor(kind) for name in of.channels})


def defects_of(signal: Signal) -> dict[str, samples.Defect]:
    return {defect.kind: defect for defect in samples.find_defects(signal.stream())}


def test_good_samples_have_nothing_to_find() -> None:
    drift = np.cumsum(rng.normal(size=SIGNAL.data.shape), axis=0) * 5e-6 + 30e-3
    assert defects_of(SIGNAL) == {} and defects_of(Signal(SIGNAL.data + drift, 250.0, SIGNAL.channels)) == {}
    coarse = np.round(SIGNAL.data / 20e-6) * 20e-6  # a few steps, which often stand at the lowest and highest
    assert defects_of(Signal(coarse, 250.0, SIGNAL.channels)) == {}


def test_flat_railed_twice_and_not_numbers_are_notes_with_their_channels() -> None:
    data = SIGNAL.data.copy()
    data[:, 1] = 3e-6
    data[:, 2] = data[:, 2].clip(-10e-6, 10e-6)
    data[100:150, 3] = np.nan
    twice = np.column_stack([data, data[:, 0]])
    defects = defects_of(Signal(twice, 250.0, (*SIGNAL.channels, "again")))
    assert {kind: defect.channels for kind, defect in defects.items()} == {
        "flat": ("Cz",),
        "railed": ("Pz",),
        "not numbers": ("Oz",),
        "duplicate": ("Fz", "again"),
    }
    assert not any(defect.fatal for defect in defects.values())
    assert "Oz: up to 1 % of the samples are not numbers" in defects["not numbers"].sentence
    assert "Fz, again: the same samples under 2 names" in defects["duplicate"].sentence


def test_flat_or_no_numbers_throughout_is_fatal() -> None:
    nothing = defects_of(Signal(np.zeros((500, 4)), 250.0, SIGNAL.channels))
    assert nothing["flat"].fatal and "nothing was recorded" in nothing["flat"].sentence
    nan = defects_of(Signal(np.full((500, 4), np.nan), 250.0, SIGNAL.channels))
    assert nan["not numbers"].fatal and "flat" not in nan


@pytest.mark.parametrize(
    ("kind", "typical", "factor", "says"),
    [
        ("eeg", 20e-6, 1e6, r"10\^6 times too large"),
        ("eeg", 20e-6, 1e3, r"10\^3 times too large"),
        ("eeg", 20e-6, 1e-6, r"10\^6 times too small"),
        ("eeg", 20e-6, 1e-3, r"10\^3 times too small"),
        ("mag", 1e-12, 1e15, r"10\^15 times too large"),
        ("mag", 1e-12, 1e-3, r"10\^3 times too small"),
        ("grad", 1e-11, 1e6, r"10\^6 times too large"),
    ],
)
def test_units_off_are_fatal_and_say_by_how_much(kind: Kind, typical: float, factor: float, says: str) -> None:
    right = kinds(Signal(SIGNAL.data / 20e-6 * typical, 250.0, SIGNAL.channels), kind)
    assert defects_of(right) == {}
    defect = defects_of(Signal(right.data * factor, 250.0, right.channels, right.sensors))["units"]
    assert defect.fatal and defect.channels == SIGNAL.channels
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(defect.sentence)


def test_triggers_and_misc_are_no_concern() -> None:
    data = np.column_stack([SIGNAL.data, np.zeros(5000), np.full(5000, 255.0)])
    sensors = {"STI": Sensor("stim"), "aux": Sensor("misc")}
    assert defects_of(Signal(data, 250.0, (*SIGNAL.channels, "STI", "aux"), sensors)) == {}

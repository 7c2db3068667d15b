"""WAV, AU and FLAC files of any sample format are read a piece at a time; durations come from headers alone."""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from eegdecode.data.io import audio

RATE = 22050


def wav(
    samples: bytes, bits: int, tag: int = 1, n_channels: int = 1, before: bytes = b"", said: int | None = None
) -> bytes:
    width = n_channels * bits // 8
    form = struct.pack("<HHIIHH", tag, n_channels, RATE, RATE * width, width, bits)
    if tag == 0xFFFE:
        form += struct.pack("<HHIH", 22, bits, 0, 1) + bytes.fromhex("000000001000800000aa00389b71")
    body = b"fmt " + struct.pack("<I", len(form)) + form + before
    body += b"data" + struct.pack("<I", len(samples) if said is None else said) + samples
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


def au(samples: bytes, coding: int) -> bytes:
    return b".snd" + struct.pack(">5I", 28, len(samples), coding, RATE, 1) + b"note" + samples


def written(subtype: str, form: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, SHAPE, RATE, format=form, subtype=subtype)
    return file.getvalue()


SHAPE = np.round(np.sin(np.arange(500) / 7) * 100) / 128  # what 8 bits can hold


def whole(bits: int, kind: str) -> bytes:
    numbers = np.round(SHAPE * 2 ** (bits - 1)).astype(np.int64)
    if bits == 24:
        four = numbers.astype(f"{kind[0]}i4").view(np.uint8).reshape(-1, 4)
        return bytes(four[:, :3] if kind[0] == "<" else four[:, 1:])
    return (numbers + (128 if kind == "<u1" else 0)).astype(kind).tobytes()


FILES = {
    "8-bit": wav(whole(8, "<u1"), 8),
    "16-bit": wav(whole(16, "<i2"), 16),
    "24-bit": wav(whole(24, "<i3"), 24),
    "32-bit": wav(whole(32, "<i4"), 32),
    "float": wav(SHAPE.astype("<f4").tobytes(), 32, tag=3),
    "double": wav(SHAPE.astype("<f8").tobytes(), 64, tag=3),
    "extensible": wav(whole(24, "<i3"), 24, tag=0xFFFE),
    "other chunks": wav(whole(16, "<i2"), 16, before=b"LIST\x05\0\0\0INFO!\0"),
    "from a pipe": wav(whole(16, "<i2"), 16, said=0xFFFFFFFF),
    "stereo": wav(np.repeat(np.frombuffer(whole(16, "<i2"), "<i2"), 2).tobytes(), 16, n_channels=2),
    "AU 16-bit": au(whole(16, ">i2"), 3),
    "AU 24-bit": au(whole(24, ">i3"), 4),
    "AU float": au(SHAPE.astype(">f4").tobytes(), 6),
    "FLAC 16-bit": written("PCM_16", "FLAC"),
    "FLAC 24-bit": written("PCM_24", "FLAC"),
}


NOISE = wav(np.random.default_rng(0).integers(0, 256, 100_000, np.uint8).tobytes(), 16)
TEXT = NOISE.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


@pytest.mark.parametrize("name", FILES)
def test_every_sample_format_gives_the_same_sound(tmp_path: Path, name: str) -> None:
    path = tmp_path / "sound"
    path.write_bytes(FILES[name])
    sound = audio.open_sound(path)
    assert (sound.sfreq, sound.n_times) == (RATE, 500)
    np.testing.assert_allclose(sound.read(0, 500)[:, 0], SHAPE, atol=1e-7)
    np.testing.assert_array_equal(sound.read(123, 321), sound.read(0, 500)[123:321])


@pytest.mark.parametrize(
    ("content", "kind", "scale"),
    [
        (wav, "u1", 2**7), (wav, "<i2", 2**15), (wav, "<i4", 2**31), (wav, "<f4", 1), (wav, "<f8", 1),
        (au, "i1", 2**7), (au, ">i2", 2**15), (au, ">i4", 2**31), (au, ">f4", 1), (au, ">f8", 1),
    ],
)  # fmt: skip
def test_samples_are_those_of_the_file_to_the_last_bit(
    tmp_path: Path, content: Callable[..., bytes], kind: str, scale: int
) -> None:
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 256, 4800, np.uint8).view(kind) if scale > 1 else rng.normal(size=600).astype(kind)
    bits = 8 * numbers.itemsize
    if content is wav:
        form = {"tag": 1 if scale > 1 else 3, "n_channels": 3}
    else:
        form = {"coding": {"i1": 2, "i2": 3, "i4": 5, "f4": 6, "f8": 7}[kind[-2:]]}
    (tmp_path / "sound").write_bytes(content(numbers.tobytes(), **({"bits": bits} if content is wav else {}), **form))
    expected = (numbers.astype(np.float64) - (128 if kind == "u1" else 0)) / scale
    expected = expected.reshape(-1, form.get("n_channels", 1)).mean(axis=1)
    np.testing.assert_array_equal(audio.read(tmp_path / "sound")[0], expected)


@pytest.mark.parametrize("form", ["WAV", "AU"])
def test_telephone_sound_is_read(tmp_path: Path, form: str) -> None:
    path = tmp_path / "sound"
    path.write_bytes(written("ULAW", form))
    np.testing.assert_allclose(audio.read(path)[0], SHAPE, atol=0.03)


def test_flac_is_the_same_wherever_reading_begins(tmp_path: Path) -> None:
    """It is not so with OGG and MP3 (decision 0035)."""
    numbers = np.random.default_rng(0).integers(-(2**15), 2**15, (40_000, 2)).astype(np.int16)
    soundfile.write(tmp_path / "a.flac", numbers, RATE)
    sound = audio.open_sound(tmp_path / "a.flac")
    for first in (0, 1, 4095, 4096, 20_001, 39_999):
        expected = numbers[first : first + 3000].mean(axis=1) / 2**15
        np.testing.assert_allclose(sound.read(first, first + 3000)[:, 0], expected, atol=1e-12)


def test_ogg_is_not_the_same_wherever_reading_begins(tmp_path: Path) -> None:
    """Why OGG is decoded as a whole first (https://github.com/libsndfile/libsndfile/issues/885)."""
    clicks = np.zeros(16_000 * 8)
    clicks[::4000] = 0.5
    soundfile.write(tmp_path / "a.ogg", clicks, 16_000)
    whole, _ = soundfile.read(tmp_path / "a.ogg")
    pieces = [soundfile.read(tmp_path / "a.ogg", start=first, frames=2000)[0] for first in range(0, 120_000, 500)]
    assert not all(np.array_equal(piece, whole[500 * n : 500 * n + 2000]) for n, piece in enumerate(pieces))
    stream = audio.open_sound(tmp_path / "a.ogg")
    assert audio.header(tmp_path / "a.ogg") == (16_000, len(whole)) == (stream.sfreq, stream.n_times)
    for first in range(0, 120_000, 500):
        np.testing.assert_allclose(stream.read(first, first + 2000)[:, 0], whole[first : first + 2000], atol=1e-6)


FLAC = written("PCM_16", "FLAC")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.mp3",
            b"ID3\x04",
            r"starts with b'ID3\\x04', unlike WAV, AU or FLAC\): ffmpeg -i a.mp3 a.wav makes one that can",
        ),
        ("a.wav", b"", r"\(it is empty\): fetch it again, or write it as PCM WAV"),
        ("a.wav", FILES["16-bit"][:30], r"\(it is cut off\)"),
        ("a.flac", FLAC[:-30], r"\(it is cut off or damaged: .*\): fetch it again"),
        ("a.flac", FLAC[:21] + bytes([FLAC[21] & 0xF0, 0, 0, 0, 0]) + FLAC[26:], "header does not say how long it is"),
        ("a.wav", FILES["16-bit"][:-400], r"\(it is cut off: 600 of 1000 bytes of samples are there\): fetch it again"),
        ("a.wav", FILES["24-bit"][:-3], r"1497 of 1500 bytes"),
        ("a.au", FILES["AU 24-bit"][:-3], r"it is cut off: 1497 of 1500 bytes"),
        (
            "a.wav",
            TEXT,
            r"had its line feeds translated to CR LF \(all \d+ of them\), as text",
        ),
        ("a.wav", TEXT[: len(NOISE)], "had its line feeds translated to CR LF"),
        ("a.wav", NOISE.replace(b"\r\n", b"\n"), r"it is cut off: \d+ of 100000 bytes"),
        ("a.wav", wav(b"\0" * 10, 4, tag=17), r"\(it is cut off or damaged: .*Malformed 'fmt ' chunk\)"),
        ("a.wav", written("IMA_ADPCM", "WAV"), "its samples are IMA_ADPCM, which is neither PCM nor floats"),
        ("a.wav", FILES["16-bit"][:12] + FILES["16-bit"][36:], "damaged: Error in WAV file. No 'data' chunk marker"),
        ("a.au", au(b"\0" * 10, 23), "a.au cannot be read as sound"),
        ("a.wav", None, "there is no sound file .*a.wav: add it"),
    ],
)
def test_what_is_no_sound_is_named(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        audio.header(tmp_path / name)


def test_a_study_of_1000_sounds_is_known_by_their_headers(tmp_path: Path) -> None:
    genres = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
    n_bytes = 30 * RATE * 2
    for name in genres:
        (tmp_path / name).mkdir()
        for number in range(100):
            with open(tmp_path / name / f"{name}.{number:05d}.wav", "wb") as file:
                file.write(wav(b"", 16, said=n_bytes))
                file.truncate(44 + n_bytes)  # no sample takes room on disk
    sounds = audio.durations(sorted(tmp_path.glob("*/*.wav")))
    assert len(sounds) == 1000 and sum(sound.duration_s for sound in sounds) / 3600 == pytest.approx(8.33, abs=0.01)
    assert {sound.genre for sound in sounds} == set(genres)
    assert [sound.genre for sound in sounds[:1]] == ["blues"]


@pytest.mark.parametrize(
    ("path", "genre"),
    [("all/blues.00042.wav", "blues"), ("blues/42.wav", "blues"), ("jazz/So What.wav", "jazz"), ("x/pop_7.au", "pop")],
)
def test_genre_is_the_name_before_the_number_or_the_folder(path: str, genre: str) -> None:
    assert audio.genre(Path(path)) == genre


def test_the_sound_of_a_film_is_the_wav_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "stimuli").mkdir()
    (tmp_path / "stimuli/film.wav").touch()
    assert audio.file_of(tmp_path, "film.mp4").name == "film.wav"
    (tmp_path / "stimuli/cartoon.flac").touch()
    assert audio.file_of(tmp_path, "cartoon.mp4").name == "cartoon.flac"
    assert audio.file_of(tmp_path, "other.mp4").name == "other.mp4"


@pytest.mark.parametrize("said", [0, 0x7FFFFFFF - 36, 0xFFFFFFFF])
def test_what_was_written_to_a_pipe_is_as_long_as_it_is(tmp_path: Path, said: int) -> None:
    (tmp_path / "a.wav").write_bytes(wav(whole(16, "<i2"), 16, said=said))
    assert audio.header(tmp_path / "a.wav").n_times == 500
    au_file = au(whole(16, ">i2"), 3)
    (tmp_path / "a.au").write_bytes(au_file[:8] + struct.pack(">I", said) + au_file[12:])
    assert audio.header(tmp_path / "a.au").n_times == 500
    (tmp_path / "longer.wav").write_bytes(FILES["16-bit"] + b"ID3 and more")
    assert audio.header(tmp_path / "longer.wav").n_times == 500


def test_a_sound_whose_length_was_never_written_is_read_in_pieces(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(whole(24, "<i3"), 24, said=0, before=b"LIST\x05\0\0\0INFO!\0"))
    np.testing.assert_allclose(audio.open_sound(tmp_path / "a.wav").read(123, 321)[:, 0], SHAPE[123:321], atol=1e-7)
    (tmp_path / "none.wav").write_bytes(wav(b"", 16))
    assert audio.header(tmp_path / "none.wav").n_times == 0


def test_a_flac_that_is_damaged_inside_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 40_000), RATE)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 100] = bytes(100)
    path.write_bytes(content)
    sound = audio.open_sound(path)
    assert len(sound.read(0, 10_000)) == len(sound.read(30_000, 40_000)) == 10_000
    with pytest.raises(ValueError, match=r"a.flac cannot be read as sound \(it is cut off or damaged: .*flac decoder"):
        audio.read(path)


def test_a_sample_that_is_no_number_is_named(tmp_path: Path) -> None:
    broken = SHAPE.astype("<f4")
    broken[441] = np.nan
    (tmp_path / "a.wav").write_bytes(wav(broken.tobytes(), 32, tag=3))
    sound = audio.open_sound(tmp_path / "a.wav")
    assert np.isfinite(sound.read(0, 441)).all()
    with pytest.raises(ValueError, match=r"a.wav has samples that are not numbers .*, the first at 0.020 s"):
        sound.read(100, 500)

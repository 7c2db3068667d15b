"""Features of stimuli: each kind is what the network gives, at the right time, once, and decodable."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from eegdecode import stages
from eegdecode.data import targets
from eegdecode.data.store import store
from eegdecode.data.targets.parts.of_run import target_of
from eegdecode.features import find, vectors
from eegdecode.features.config import Features, Films, Hub, Module, Pictures, Sounds, TorchScript, Words
from eegdecode.preprocessing.config import Preprocess
from eegdecode.preprocessing.steps.pick import Pick
from eegdecode.signals import Stream, Trial
from eegdecode.synth.config import Images
from eegdecode.synth.study import make_study
from hpc.config import InputFile
from hpc.rank.context import Context, Input, Preempted, World
from hpc.runs.rundir import RunDir
from tests.eegdecode import networks
from tests.eegdecode.test_sound_alone import write_film

RATE = 1000
SMALL = Pictures(height=8, width=8)


def net(name: str, **settings: Any) -> Module:
    return Module(f"tests.eegdecode.networks:{name}", settings=settings)


def run(folder: Path, cfg: Features) -> tuple[Path, dict[str, Any]]:
    ctx = Context(World(), RunDir(folder))
    return ctx.out, stages.features(cfg, ctx)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "study/stimuli"
    (folder / "cats").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("b.png", "a.jpg", "cats/a.jpg"):
        Image.fromarray(rng.integers(0, 255, (10, 14, 3), dtype=np.uint8)).save(folder / name)
    return tmp_path / "study"


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    folder = tmp_path / "sounds"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, seconds in (("long", 9.0), ("short", 1.5)):
        soundfile.write(folder / f"{name}.wav", rng.normal(size=round(seconds * RATE)) * 0.1, RATE, "FLOAT")
    return folder


# ---- pictures


def test_a_picture_has_the_values_of_the_layer_with_its_places_averaged(pictures: Path, tmp_path: Path) -> None:
    cfg = Features(Input(str(pictures)), net("Eye"), Pictures(height=8, width=8, crop=False), layer="blocks.1")
    out, metrics = run(tmp_path / "run", cfg)
    assert metrics == {"stimuli": 3, "features": 6}
    assert [line.split("\t")[1] for line in (out / "features.tsv").read_text().splitlines()] == [
        "stimulus", "a.jpg", "b.png", "cats/a.jpg",
    ]  # fmt: skip
    with Image.open(pictures / "stimuli/b.png") as picture:
        pixels = np.asarray(picture.resize((8, 8), Image.Resampling.BICUBIC), np.float32) / 255
    pixels = (pixels - np.float32(SMALL.mean)) / np.float32(SMALL.std)
    eye = networks.Eye()
    values = eye.blocks[1](torch.relu(eye.blocks[0](eye.patches(torch.from_numpy(pixels.transpose(2, 0, 1))[None]))))
    expected = values.mean((2, 3))[0].detach().numpy()
    np.testing.assert_allclose(np.load(out / "features.npy")[1], expected, atol=1e-5)
    trials = [Trial(0.0, 1.0, "b.png"), Trial(2.0, 1.0, "a.jpg")]
    made = targets.make(target_of(out), trials, tmp_path / "anywhere", 5.0)
    assert isinstance(made, np.ndarray)
    np.testing.assert_array_equal(made, np.load(out / "features.npy")[[1, 0]])


def test_torchscript_gives_what_the_module_gives_with_its_weights_from_either_file(
    pictures: Path, tmp_path: Path
) -> None:
    eye = networks.Eye()
    with torch.no_grad():
        eye.head.bias += 1
    torch.jit.script(eye).save(tmp_path / "eye.pt")
    torch.save({"state_dict": eye.state_dict()}, tmp_path / "state.pt")
    write_safetensors(tmp_path / "eye.safetensors", eye.state_dict())
    ways = [TorchScript(InputFile(str(tmp_path / "eye.pt")))]
    for name in ("state.pt", "eye.safetensors"):
        ways.append(Module("tests.eegdecode.networks:Eye", weights=InputFile(str(tmp_path / name))))  # type: ignore[arg-type]
    values = [
        np.load(run(tmp_path / f"run{number}", Features(Input(str(pictures)), way, SMALL))[0] / "features.npy")
        for number, way in enumerate(ways)
    ]
    assert values[0].shape == (3, 5)
    np.testing.assert_array_equal(values[0], values[1])
    np.testing.assert_array_equal(values[0], values[2])
    plain, _ = run(tmp_path / "plain", Features(Input(str(pictures)), net("Eye"), SMALL))
    np.testing.assert_allclose(np.load(plain / "features.npy") + 1, values[0], atol=1e-5)


def write_safetensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    header, at, content = {}, 0, b""
    for name, tensor in tensors.items():
        raw = tensor.detach().numpy().astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [at, at + len(raw)]}
        at, content = at + len(raw), content + raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)


def test_a_stopped_run_computes_only_what_is_missing_and_ends_the_same(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "BLOCK", 1)
    cfg = Features(Input(str(pictures)), net("Eye"), SMALL)
    whole, _ = run(tmp_path / "whole", cfg)
    stopped = Context(World(), RunDir(tmp_path / "stopped"))
    stopped.should_stop = lambda: len(list((tmp_path / "stopped/out/.blocks").glob("*.npy"))) == 2
    with pytest.raises(Preempted):
        stages.features(cfg, stopped)
    assert not (stopped.out / "features.npy").exists()
    blocks = {path: path.stat().st_mtime_ns for path in (stopped.out / ".blocks").glob("*.npy")}
    assert len(blocks) == 2
    written: list[Path] = []
    monkeypatch.setattr(vectors, "atomic_write", lambda path, write: (written.append(path), ORIGINAL(path, write))[0])
    out, _ = run(tmp_path / "stopped", cfg)
    assert len(written) == 1 and written[0] not in blocks
    assert (out / "features.npy").read_bytes() == (whole / "features.npy").read_bytes()
    assert not (out / ".blocks").exists()


ORIGINAL = vectors.atomic_write


@pytest.mark.parametrize(
    ("cfg", "sentence"),
    [
        ({"layer": "block.1"}, r"has no layer 'block.1'. Did you mean 'blocks.1'\?"),
        ({"layer": "unused"}, "has a layer unused, but does not run it on 3 pictures"),
        ({"network": net("Odd", gives="one row")}, r"gives the shape \(1, 2\) for 3 pictures, and not 3 rows"),
        ({"network": net("Odd", gives="nan")}, r"not numbers \(NaN or infinite\) for a.jpg"),
        ({"network": net("Odd", gives="text")}, "gives a str for 3 pictures .* no tensor"),
        ({"network": net("Odd", gives="several")}, "has the outputs logits, mask: choose one, as features.output="),
        ({"network": net("Odd", gives="several"), "output": "logit"}, "no output 'logit'. Did you mean 'logits'"),
        ({"network": net("Odd", gives="nothing")}, r"gives the shape \(3, 0\) .* no feature"),
        ({"network": net("Eye", widht=3)}, "cannot be called with features.network.settings .*widht"),
        ({"network": net("Eyes")}, "networks:Eyes cannot be imported"),
        ({"network": net("Ear")}, "cannot take 3 pictures of the shape"),
        ({"stimuli": Pictures(files="*.tiff")}, r"has no pictures \(.png .* that match '\*.tiff'"),
        ({"stimuli": Sounds()}, "has files of .jpg, .png, but no sounds, which are .wav"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    pictures: Path, tmp_path: Path, cfg: dict[str, Any], sentence: str
) -> None:
    given = {"network": net("Eye"), "stimuli": SMALL, **cfg}
    with pytest.raises(ValueError, match=sentence):
        run(tmp_path / "run", Features(Input(str(pictures)), **given))


def test_weights_of_another_network_and_a_layer_of_torchscript_are_refused(pictures: Path, tmp_path: Path) -> None:
    torch.save(networks.Ear().state_dict(), tmp_path / "ear.pt")
    torch.jit.script(networks.Eye()).save(tmp_path / "eye.pt")
    wrong = Module("tests.eegdecode.networks:Eye", weights=InputFile(str(tmp_path / "ear.pt")))
    with pytest.raises(ValueError, match=r"lacks 10 tensors of the network.*it has first.weight.*random weights"):
        run(tmp_path / "a", Features(Input(str(pictures)), wrong, SMALL))
    script = TorchScript(InputFile(str(tmp_path / "eye.pt")))
    with pytest.raises(ValueError, match="runs as one piece, so that its layer 'head' cannot be looked at"):
        run(tmp_path / "b", Features(Input(str(pictures)), script, SMALL, layer="head"))


def test_unreadable_pictures_are_named_and_the_others_are_not_computed_again(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "BLOCK", 1)
    whole = (pictures / "stimuli/b.png").read_bytes()
    (pictures / "stimuli/b.png").write_bytes(whole[:100])
    cfg = Features(Input(str(pictures)), net("Eye"), SMALL)
    with pytest.raises(ValueError, match=r"1 of 3 stimuli cannot be used, the others are done: .*b.png is cut off"):
        run(tmp_path / "run", cfg)
    assert len(list((tmp_path / "run/out/.blocks").glob("*.npy"))) == 2
    (pictures / "stimuli/b.png").write_bytes(whole)
    assert run(tmp_path / "run", cfg)[1]["stimuli"] == 3


def test_a_plan_looks_for_stimuli_and_for_transformers(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = Features(Input(str(pictures)), net("Eye"), SMALL)
    assert stages.check_features(cfg, 1, lambda _: pictures) == "3 pictures"
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="has no file, but no pictures, which are .png"):
        stages.check_features(cfg, 1, lambda _: tmp_path / "empty")
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'hpc-eegdecode\[hub\]'"):
        stages.check_features(Features(Input(str(pictures)), Hub("openai/clip-vit-base-patch32")), 1, lambda _: None)


# ---- sounds


@pytest.mark.parametrize("padding", [0, 1, 4])
def test_the_clock_of_a_network_is_measured_and_pieces_are_the_whole(
    sounds: Path, tmp_path: Path, padding: int
) -> None:
    ear = Sounds(sfreq=RATE, chunk_s=2.0, context_s=0.5)
    out, metrics = run(tmp_path / "run", Features(Input(str(sounds)), net("Ear", padding=padding), ear))
    # Filters of 10 and 3 x 5 samples, with steps of 5 x 2: of one row 20 samples, less the padding of both
    centre = (20 - 1) / 2 - padding - 5 * padding
    assert (metrics["rate"], metrics["features"]) == (100.0, 4)
    assert metrics["start_s"] == pytest.approx(centre / RATE)
    samples, _ = soundfile.read(sounds / "long.wav", dtype="float32")
    with torch.no_grad():
        whole = networks.Ear(padding)(torch.from_numpy(samples)[None])[0].T.numpy()
    np.testing.assert_allclose(np.load(out / "features/long.npy"), whole, atol=1e-5)
    about = json.loads((out / "features/long.json").read_text())
    assert (about["stimulus"], about["rate"], about["shape"]) == ("long.wav", 100.0, list(whole.shape))


def test_a_click_is_at_its_time_in_the_recording(tmp_path: Path) -> None:
    (tmp_path / "study/stimuli").mkdir(parents=True)
    sound = np.zeros(3 * RATE)
    sound[1500:1510] = 0.5
    soundfile.write(tmp_path / "study/stimuli/click.wav", sound, RATE, "FLOAT")
    cfg = Features(Input(str(tmp_path / "study")), net("Loudness"), Sounds(sfreq=RATE), sfreq=200.0)
    out, metrics = run(tmp_path / "run", cfg)
    assert (metrics["rate"], metrics["start_s"]) == (100.0, 0.0045)
    made = targets.make(target_of(out), [Trial(4.0, 3.0, "click.wav")], tmp_path / "study", 10.0)
    assert isinstance(made, Stream) and made.sfreq == 200.0
    loud = made.read(0, made.n_times)[:, 0]
    assert loud.argmax() / 200 == pytest.approx(4.0 + 1.505, abs=0.005)


def test_a_sound_at_another_rate_is_resampled_and_windows_give_one_vector_each(tmp_path: Path) -> None:
    tone = np.sin(2 * np.pi * 50 * np.arange(3 * 4410) / 4410)
    soundfile.write(tmp_path / "tone.wav", tone, 4410, "FLOAT")
    windows = Sounds(sfreq=RATE, window_s=1.0, hop_s=0.5)
    cfg = Features(Input(str(tmp_path)), net("Loudness"), windows, pool="mean")
    out, metrics = run(tmp_path / "run", cfg)
    assert (metrics["rate"], metrics["start_s"]) == (2.0, 0.5)
    np.testing.assert_allclose(np.load(out / "features/tone.npy"), np.full((5, 1), 0.5), atol=0.01)


def test_networks_and_sounds_without_rows_are_refused(sounds: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not grow with the sound.*set stimuli.window_s"):
        run(tmp_path / "a", Features(Input(str(sounds)), net("Brightness"), Sounds(sfreq=RATE)))
    soundfile.write(sounds / "tiny.wav", np.zeros(5), RATE, "FLOAT")
    with pytest.raises(ValueError, match=r"1 of 3 stimuli .*tiny.wav lasts 0.005 s, but .* needs 0.02 s for a row"):
        run(tmp_path / "b", Features(Input(str(sounds)), net("Ear"), Sounds(sfreq=RATE)))
    soundfile.write(sounds / "long.flac", np.zeros(5), RATE)
    with pytest.raises(ValueError, match=r"long.flac and long.wav would have the same features, long.npy"):
        find.find(Features(Input(str(sounds)), net("Ear"), Sounds()), sounds)


def test_a_sound_that_changed_is_computed_again_and_no_other(sounds: Path, tmp_path: Path) -> None:
    cfg = Features(Input(str(sounds)), net("Ear"), Sounds(sfreq=RATE))
    out, _ = run(tmp_path / "run", cfg)
    before = {path.name: path.stat().st_mtime_ns for path in (out / "features").glob("*.npy")}
    soundfile.write(sounds / "short.wav", np.ones(RATE) * 0.1, RATE, "FLOAT")
    run(tmp_path / "run", cfg)
    after = {path.name: path.stat().st_mtime_ns for path in (out / "features").glob("*.npy")}
    assert after["long.npy"] == before["long.npy"] and after["short.npy"] != before["short.npy"]


# ---- words and films


def test_words_have_a_vector_each_and_those_of_a_transcript_last_until_they_end(tmp_path: Path) -> None:
    for folder in ("words", "stories"):
        (tmp_path / folder).mkdir()
    (tmp_path / "words/words.tsv").write_text("stimulus\tword\nb.wav\tworld\na.wav\thello you\n")
    out, _ = run(tmp_path / "a", Features(Input(str(tmp_path / "words")), net("Letters"), Words()))
    np.testing.assert_array_equal(np.load(out / "features.npy"), [[9, ord("h")], [5, ord("w")]])
    rows = "onset\tduration\tword\n0.1\t0.2\tonce\n0.35\tn/a\tupon\n0.5\t0.1\ta\n"
    (tmp_path / "stories/story.tsv").write_text(rows)
    transcript = Words(sfreq=20.0)
    out, _ = run(tmp_path / "b", Features(Input(str(tmp_path / "stories")), net("Letters"), transcript, batch=2))
    letters = np.load(out / "features/story.npy")[:, 0]
    np.testing.assert_array_equal(letters, [0, 0, 4, 4, 4, 4, 0, 4, 4, 4, 1, 1])
    made = targets.make(target_of(out), [Trial(1.0, 0.6, "story.wav")], tmp_path, 2.0)
    assert isinstance(made, Stream)
    np.testing.assert_array_equal(made.read(20, 32)[:, 0], letters)
    (tmp_path / "stories/story.tsv").write_text("onset\tword\n0.5\tonce\n0.1\tupon\n")
    with pytest.raises(ValueError, match=r"story.tsv has onsets that do not rise: sort its rows by onset"):
        run(tmp_path / "c", Features(Input(str(tmp_path / "stories")), net("Letters"), transcript))


def test_frames_of_a_film_are_those_on_the_screen_and_clips_stand_for_their_middle(tmp_path: Path) -> None:
    write_film(tmp_path / "film.mp4", fps=10, seconds=2)
    plain = Films(fps=5, height=8, width=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    out, metrics = run(tmp_path / "a", Features(Input(str(tmp_path)), net("Brightness"), plain, batch=4))
    bright = np.load(out / "features/film.npy")[:, 0]
    assert (len(bright), metrics["rate"], metrics["start_s"]) == (10, 5.0, 0.0)
    steps = np.diff(bright)
    assert (steps > 0).all() and steps.std() < 0.2 * steps.mean(), "every second frame of a film that gets brighter"
    clips = Films(fps=5, frames=3, step=2, height=8, width=8, mean=plain.mean, std=plain.std)
    out, metrics = run(tmp_path / "b", Features(Input(str(tmp_path)), net("Brightness"), clips))
    assert (metrics["rate"], metrics["start_s"]) == (2.5, 0.2)
    np.testing.assert_allclose(
        np.load(out / "features/film.npy")[:, 0], [bright[k : k + 3].mean() for k in (0, 2, 4, 6)], atol=1e-5
    )


# ---- to the end


def test_features_become_the_target_of_preprocess_whoever_computed_them(tmp_path: Path) -> None:
    made = Context(World(), RunDir(tmp_path / "runs/made"))
    make_study(Images(n_subjects=1, n_train=4, n_test=2, n_channels=4), made)
    cfg = Features(Input("made"), net("Eye"), SMALL, title="eye")
    out, _ = run(tmp_path / "runs/features", cfg)
    ctx = Context(World(), RunDir(tmp_path / "runs/store"))
    stages.preprocess(Preprocess(Input("made"), features=(Input("features"),), targets=(), steps=(Pick(),)), ctx)
    index = [line.split("\t")[1] for line in (out / "features.tsv").read_text().splitlines()[1:]]
    table = np.load(out / "features.npy")
    for stored in store.open_store(ctx.out).recordings:
        rows = [index.index(trial.stimulus) for trial in stored.trials]
        np.testing.assert_array_equal(stored.values("eye"), table[rows])
    (tmp_path / "other").mkdir()
    again = Context(World(), RunDir(tmp_path / "runs/again"))
    wrong = Preprocess(Input("made"), features=(Input(str(tmp_path / "other")),), targets=())
    with pytest.raises(ValueError, match="has no target.json: preprocess.features names a run of the stage features"):
        stages.preprocess(wrong, again)


def test_a_network_of_transformers_comes_from_its_folder_or_the_cache(pictures: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    part = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**part, "image_size": 8, "patch_size": 4, "projection_dim": 6}
    torch.manual_seed(0)
    clip = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**vision)).eval()
    clip.save_pretrained(tmp_path / "clip")
    own = {"size": {"shortest_edge": 8}, "crop_size": {"height": 8, "width": 8}, "do_center_crop": True}
    colours = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25], "do_normalize": True, "resample": 3}
    (tmp_path / "clip/preprocessor_config.json").write_text(json.dumps(own | colours))
    hub = Hub(str(tmp_path / "clip"), of="CLIPVisionModelWithProjection")
    out, _ = run(tmp_path / "a", Features(Input(str(pictures)), hub, output="image_embeds"))
    with Image.open(pictures / "stimuli/b.png") as picture:
        pixels = np.asarray(picture.resize((11, 8), Image.Resampling.BICUBIC).crop((1, 0, 9, 8)), np.float32) / 255
    with torch.no_grad():
        given = torch.from_numpy((pixels - 0.5) / 0.25).permute(2, 0, 1)[None]
        expected = clip(pixel_values=given).image_embeds[0].numpy()
    np.testing.assert_allclose(np.load(out / "features.npy")[1], expected, atol=1e-4)
    with pytest.raises(ValueError, match="the cache of the hub has no nobody/nothing.*`hf download nobody/nothing`"):
        run(tmp_path / "b", Features(Input(str(pictures)), Hub("nobody/nothing")))

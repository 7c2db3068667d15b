"""A setting of MNE, PyTorch, Keras, Lightning, braindecode or Slurm leads to ours: the error names settings that there
are."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from eegdecode.models import MODELS
from eegdecode.preprocessing.config import Preprocess
from eegdecode.preprocessing.steps import STEPS
from eegdecode.training.config import Estimate, Train
from hpc import config
from hpc.cli import options, table
from hpc.codes import USAGE
from hpc.config.choices import leaves
from hpc.errors import ConfigError
from tests.conftest import Launch

SETTING = re.compile(r"\b[a-z_]+\.[a-z_]+\b")
CHOICE = re.compile(r"\b([a-z_]+)(?:\.([a-z_]+))?=(\w+)")
VERB = re.compile(r"`(\w+) RUN`")


@pytest.mark.parametrize("stage", [Train, Estimate])
@pytest.mark.parametrize("word", Train.SYNONYMS)
def test_the_word_of_another_package_is_answered_by_its_sentence(stage: type[Train], word: str) -> None:
    with pytest.raises(ConfigError) as raised:
        config.build(stage, {"data": ["preprocess"], word: 1}, "train")
    assert str(raised.value) == f"train has no setting {word!r}: {Train.SYNONYMS[word]}"


@pytest.mark.parametrize("word", Train.SYNONYMS)
def test_what_the_sentence_names_is_there(word: str) -> None:
    sentence = Train.SYNONYMS[word]
    settings, named = SETTING.findall(sentence), re.findall(r"--[a-z-]+", sentence)
    assert settings or named, sentence
    for path in settings:
        assert path in leaves(Train, path.rpartition(".")[2]), path
    for option in named:
        assert options.OPTIONS[option].fits("train"), option
    assert set(VERB.findall(sentence)) <= table.verbs().keys()
    for group, leaf, value in CHOICE.findall(sentence):
        chosen = {group: {leaf: value} if leaf else value}
        config.build(Train, {"data": ["preprocess"], **chosen}, "train")


OF_CHOICES = [
    (kind, word)
    for choices in (STEPS, MODELS)
    for kind in choices.intact()
    for word in kind.__dict__.get("SYNONYMS", {})
]


@pytest.mark.parametrize(("kind", "word"), OF_CHOICES)
def test_the_sentence_of_a_step_or_model_names_a_setting_that_it_has(kind: Any, word: str) -> None:
    own = {field.name for field in dataclasses.fields(kind)}
    assert word not in own and own & set(re.findall(r"\w+", kind.SYNONYMS[word]))
    with pytest.raises(ConfigError, match=rf"step has no setting {word!r}: {re.escape(kind.SYNONYMS[word])}"):
        config.build(kind, {"name": kind.name, word: 1}, "step")


@pytest.mark.parametrize("word", Preprocess.SYNONYMS)
def test_what_preprocess_says_instead_can_be_said(word: str) -> None:
    for name, key in re.findall(r"\{name: (\w+), (\w+):", Preprocess.SYNONYMS[word]):
        if name != "label":
            assert key in {field.name for field in dataclasses.fields(STEPS[name])}
    assert any(way in Preprocess.SYNONYMS[word] for way in ("{name:", "train.windows=epochs", "bad_spans=reject"))


@pytest.mark.parametrize("word", STEPS.not_provided)
def test_the_step_of_another_package_leads_to_one_that_is_there(word: str) -> None:
    assert word not in STEPS and set(re.findall(r"\w+", STEPS.not_provided[word])) & set(STEPS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["preprocess", "preprocess.steps.bandpass.l_freq=1"], "steps.bandpass has no setting 'l_freq': low_hz is"),
        (["preprocess", "steps=[{name: bandpass, h_freq: 1}]"], "steps[0] has no setting 'h_freq': high_hz is"),
        (["preprocess", "steps=[{name: notch, freqs: [50]}]"], "steps[0] has no setting 'freqs': hz is the mains"),
        (["preprocess", "steps=[{name: reference, ref_channels: [Cz]}]"], "'ref_channels': channels are the names"),
        (["preprocess", "steps=[{name: notch, sfreq: 100}]"], "'sfreq': it is of the step resample: {name: resample,"),
        (["preprocess", "n_components=20"], "'n_components': the step ica has as many"),
        (["preprocess", "steps.bandpass.low_hz=1"], "say steps='[{name: bandpass, low_hz: 1}]', and the others before"),
        (["preprocess", "steps=[{name:bandpass}]"], "YAML needs a space after the colon of name:bandpass"),
        (["preprocess", "steps=bandpass"], "a list of several, in order, but got 'bandpass': say steps=[bandpass]"),
        (["preprocess", "steps=[filter]"], "steps[0]: a filter is bandpass, with low_hz and high_hz"),
        (
            ["preprocess", "events={name: fixed_length, of: {overlap: true}}"],
            "events.of needs a name besides its settings",
        ),
        (["preprocess", "events.channel=STI"], "channel is a setting of codes and triggers and film: say which with"),
        (["train", "model.lr=1"], "train.model has no setting 'lr': it is optim.lr"),
        (["train", "optim.epochs=3"], "train.optim has no setting 'epochs': training is counted in optim.steps"),
        (["train", "model.batch_size=3"], "'batch_size': windows.batch is the number of windows a step"),
        (["train", "model=eegnet", "model.F1=3"], "train.model has no setting 'F1': filters is F1 of the paper"),
        (["train", "model=bilstm", "model.kernel=3"], "train.model has no setting 'kernel'. There is: name, hidden"),
        (["train", "model.mem=4"], "train.model has no setting 'mem': it is the option --mem 4"),
        (["train", "optim.gres=gpu:1"], "train.optim has no setting 'gres': it is the option --gpus N"),
        (["train", "nodes=2"], "train has no setting 'nodes': it is the option --nodes 2"),
        (["sweep", "train", "time=1h,2h"], "train has no setting 'time': it is the option --time 4h"),
    ],
)
def test_a_word_of_the_field_leads_to_our_setting_from_wherever_it_is_written(
    words: list[str], message: str, launch: Launch, tmp_path: Path
) -> None:
    (tmp_path / "study").mkdir()
    verb = words[:2] if words[0] == "sweep" else words[:1]
    given = "study=study/" if words[0] == "preprocess" else "data=study/"
    done = launch(*verb, given, *words[len(verb) :], code=USAGE)
    assert message in done.stderr and len(done.stderr.splitlines()) == 1


def test_so_does_one_in_a_file(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("preprocess:\n  study: x/\n  steps: [{name: bandpass, l_freq: 1}]\n")
    assert "'l_freq': low_hz is the lower edge" in launch("preprocess", "study.yaml", code=USAGE).stderr
    (tmp_path / "study.yaml").write_text("train:\n  data: x/\n  optim: {cpus_per_task: 4}\n")
    assert "'cpus_per_task': it is the option --cpus N" in launch("train", "study.yaml", code=USAGE).stderr


def test_a_path_of_settings_leads_there_too(launch: Launch) -> None:
    error = launch("settings", "preprocess.steps.bandpass.l_freq", code=USAGE).stderr
    assert "steps.bandpass has no setting 'l_freq': low_hz is the lower edge" in error
    assert "has no setting 'lr': it is optim.lr" in launch("settings", "train.model.eegnet.lr", code=USAGE).stderr

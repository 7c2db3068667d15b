"""A setting of PyTorch, Keras, Lightning or braindecode leads to ours: the error names settings that there are."""

import re

import pytest

from eegdecode.training.config import Estimate, Train
from hpc import config
from hpc.cli import options, table
from hpc.config.choices import leaves
from hpc.errors import ConfigError

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

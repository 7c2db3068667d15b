"""A config with the words of the previous version builds the same as with today's, and a notice says the new word."""

from typing import Any

import pytest

from eegdecode.data.config import BidsEvents, EpochWindows, FixedLengthEvents
from eegdecode.preprocessing.config import Preprocess
from eegdecode.preprocessing.steps.clip import Clip
from eegdecode.preprocessing.steps.scale import Scale
from eegdecode.preprocessing.steps.set_channels import SetChannels
from eegdecode.training.config import Train
from hpc import config, errors

OLD_WORDS = [
    (Preprocess, {"steps": [{"name": "montage", "channels": ["Cz"]}]}, (SetChannels(channels=("Cz",)),)),
    (Preprocess, {"steps": ["clamp", {"name": "clamp", "limit": 3}]}, (Clip(), Clip(limit=3.0))),
    (Preprocess, {"steps": [{"name": "scale", "clamp": 5}]}, (Scale(clip=5.0),)),
    (Preprocess, {"events": {"name": "segments", "length_s": 20}}, FixedLengthEvents(length_s=20.0)),
    (Preprocess, {"events": {"name": "segments", "of": "bids"}}, FixedLengthEvents(of=BidsEvents())),
    (Train, {"windows": {"name": "locked", "tmax_s": 2}}, EpochWindows(tmax_s=2.0)),
    (Train, {"windows": "locked"}, EpochWindows()),
]
NOTICES = [
    "montage is called set_channels",
    "clamp is called clip",
    "clamp is called clip",
    "segments is called fixed_length",
    "segments is called fixed_length",
    "locked is called epochs",
    "locked is called epochs",
]


@pytest.mark.parametrize(("of_stage", "notice"), list(zip(OLD_WORDS, NOTICES, strict=True)))
def test_the_word_of_the_version_before_still_works(
    of_stage: tuple[type, dict[str, Any], object],
    notice: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(errors, "_noticed", set())
    stage, values, expected = of_stage
    (field,) = values
    inputs = {"study": "study"} if stage is Preprocess else {"data": "data"}
    built = config.build(stage, {**inputs, **values}, "stage")
    assert getattr(built, field) == expected
    assert f"{notice} now; the old word works until the next version" in capsys.readouterr().err
    assert config.build(stage, config.plain(built), "stage") == built
    assert capsys.readouterr().err == ""

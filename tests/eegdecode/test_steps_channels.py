"""Channels are renamed, picked and ordered; bad ones are interpolated."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from eegdecode import sphere
from eegdecode.preprocessing import chains
from eegdecode.preprocessing.steps import StepConfig
from eegdecode.preprocessing.steps.aliases import Aliases
from eegdecode.preprocessing.steps.bad_channels import BadChannels
from eegdecode.preprocessing.steps.pick import Pick
from eegdecode.preprocessing.steps.reference import Reference
from eegdecode.preprocessing.steps.scale import Scale
from eegdecode.preprocessing.steps.set_channels import TEN_TWENTY, SetChannels
from eegdecode.signals import Kind, Sensor, Signal, Stream


def apply(chain: list[StepConfig], stream: Stream, bads: Sequence[str] = ()) -> Stream:
    return chains.apply(chain, replace(stream, bads=tuple(bads)))


def named(*names: str, **kinds: Kind) -> Stream:
    """Channel k is the constant k."""
    sensors = {name: Sensor(kind) for name, kind in kinds.items()}
    names += tuple(kinds)
    return Signal(np.tile(np.arange(len(names), dtype=np.float32), (10, 1)), 100.0, names, sensors).stream()


def scalp(n_times: int = 10_000) -> Signal:
    """The 10-20 system over a smooth field, with a little noise of each channel's own."""
    rng = np.random.default_rng(0)
    known = sphere.ten_ten()
    places = np.array([known[name] for name in TEN_TWENTY])
    field = rng.normal(size=(n_times, 4)) @ np.column_stack([np.ones(len(places)), places]).T
    data = 10e-6 * (field + 0.05 * rng.normal(size=(n_times, len(places))))
    sensors = {name: Sensor("eeg", tuple(0.095 * place)) for name, place in zip(TEN_TWENTY, places, strict=True)}
    return Signal(data.astype(np.float32), 250.0, TEN_TWENTY, sensors)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("T3", "T7"), ("t4", "T8"), ("T5", "P7"), ("EEG T6-REF", "P8"), ("FP1", "Fp1"), ("EEG Fpz-LE", "Fpz"),
        ("Fc5.", "FC5"), ("Iz..", "Iz"), ("CZ", "Cz"), ("POZ", "POz"), ("AF7", "AF7"), ("EEG 001", "EEG 001"),
        ("M1", "M1"), ("Status", "Status"), ("E12", "E12"),
    ],
)  # fmt: skip
def test_a_place_has_one_name(name: str, wanted: str) -> None:
    assert apply([Aliases()], named(name)).channels == (wanted,)


def test_a_table_of_ones_own_comes_first() -> None:
    assert apply([Aliases(table={"E9": "Fp2", "T3": "left"})], named("E9", "T3")).channels == ("Fp2", "left")


def test_only_eeg_is_renamed_and_what_is_known_goes_along() -> None:
    stream = apply([Aliases(table={"VEOG": "eye"})], named("T3", T5="seeg", VEOG="eog"))
    assert stream.channels == ("T7", "T5", "eye")
    assert [stream.sensor(name).kind for name in stream.channels] == ["eeg", "seeg", "eog"]


def test_two_names_of_one_place_are_refused() -> None:
    with pytest.raises(ValueError, match="these occur twice: T7"):
        apply([Aliases()], named("T3", "T7"))


@pytest.mark.parametrize(
    ("step", "kept"),
    [
        (Pick(), ["Cz", "Pz", "Oz", "MEG1"]),
        (Pick(kinds=("eeg",)), ["Cz", "Pz", "Oz"]),
        (Pick(kinds=("eeg", "eog")), ["Cz", "Pz", "Oz", "EOG"]),
        (Pick(names=("Oz", "Cz")), ["Cz", "Oz"]),
        (Pick(regex="z$", drop=("Pz",)), ["Cz", "Oz"]),
    ],
)
def test_pick_keeps_the_order(step: Pick, kept: list[str]) -> None:
    before = named("Cz", "Pz", "Oz", EOG="eog", MEG1="mag")
    after = apply([step], before)
    assert list(after.channels) == kept
    assert after.read(0, 1)[0].tolist() == [before.channels.index(name) for name in kept]


def test_pick_refuses_what_is_not_there() -> None:
    with pytest.raises(ValueError, match="pick: there is no channel Fz among Cz, EOG"):
        apply([Pick(names=("Fz",))], named("Cz", EOG="eog"))
    with pytest.raises(ValueError, match="pick leaves none of the channels Cz, EOG"):
        apply([Pick(kinds=("mag",))], named("Cz", EOG="eog"))


def test_set_channels_puts_channels_in_its_order() -> None:
    after = apply([SetChannels(channels=("Oz", "Cz"))], named("Cz", "Pz", "Oz"))
    assert (after.channels, after.read(3, 4).tolist()) == (("Oz", "Cz"), [[2.0, 0.0]])
    assert apply([SetChannels()], scalp().stream()).channels == TEN_TWENTY


def test_set_channels_refuses_or_interpolates_what_is_missing() -> None:
    whole = scalp()
    less = apply([Pick(drop=("Cz", "P3"))], whole.stream())
    with pytest.raises(ValueError, match=r"set_channels needs Cz, P3, but there are Fp1, .*missing: interpolate"):
        apply([SetChannels()], less)
    after = apply([SetChannels(missing="interpolate")], less)
    assert after.channels == TEN_TWENTY
    assert np.corrcoef(after.signal().data[:, 9], whole.data[:, 9])[0, 1] > 0.98
    with pytest.raises(ValueError, match="set_channels lacks E7, and the place of E7 is not known"):
        apply([SetChannels(channels=("Cz", "E7"), missing="interpolate")], whole.stream())


def test_bad_channels_are_found_named_and_made_up(caplog: pytest.LogCaptureFixture) -> None:
    whole = scalp()
    rng = np.random.default_rng(1)
    data = whole.data.copy()
    data[:, 2] = 4e-5  # F7 is flat
    data[:, 5] *= 30  # F4 is loud
    data[:, 9] = 15e-6 * rng.normal(size=len(data))  # Cz has come off
    data[400, 12] = np.nan  # P7 has a hole
    broken = Signal(data, whole.sfreq, whole.channels, whole.sensors)
    with caplog.at_level(logging.INFO):
        after = apply([BadChannels()], broken.stream(), bads=("O1", "EXG1")).signal().data
    logged = caplog.text.split("bad channels: ")[1]
    names = [whole.channels[index] for index in (2, 5, 9, 12)]
    assert f"{names[0]} (flat)" in logged and f"{names[1]} (louder than the others, z =" in logged
    assert f"{names[2]} (unlike all others, r = 0." in logged and f"{names[3]} (not a number in 1 of " in logged
    assert "O1 (the recording says so)" in logged and logged.count("(") == 5
    for index in (2, 5, 9, 12, whole.channels.index("O1")):
        assert np.corrcoef(after[:, index], whole.data[:, index])[0, 1] > 0.9, whole.channels[index]
    assert np.isfinite(after).all()


def test_a_good_recording_has_no_bad_channel() -> None:
    before = scalp()
    np.testing.assert_array_equal(apply([BadChannels()], before.stream()).signal().data, before.data)


def test_aliases_hold_for_bad_channels_too() -> None:
    signal = scalp()
    old = Signal(signal.data, 250.0, tuple({"T7": "T3"}.get(name, name) for name in signal.channels))
    after = apply([Aliases(), BadChannels()], old.stream(), bads=["T3"]).signal().data
    assert (after != signal.data).any(axis=0).sum() == 1


def test_more_bad_channels_than_can_be_made_up_are_refused() -> None:
    signal = scalp()
    with pytest.raises(
        ValueError, match=r"8 of 19 channels are bad, and at most 34% can be interpolated \(Fp1: the recording"
    ):
        apply([BadChannels()], signal.stream(), bads=signal.channels[:8])


def test_what_stands_nowhere_is_not_made_up() -> None:
    signal = Signal(scalp().data, 250.0, tuple(f"E{index}" for index in range(19)))
    with pytest.raises(
        ValueError, match="E4 cannot be interpolated: the place of E4 is not known .* drop these channels by pick"
    ):
        apply([BadChannels()], signal.stream(), bads=["E4"])


def test_steps_go_through_a_whole_clinical_name_list() -> None:
    old = {"T7": "T3", "T8": "T4", "P7": "T5", "P8": "T6"}
    names = tuple(f"EEG {old.get(name, name).upper()}-REF" for name in TEN_TWENTY)
    chain: list[StepConfig] = [Aliases(), SetChannels(), BadChannels(), Reference(), Scale()]
    assert apply(chain, Signal(scalp().data, 250.0, names).stream()).signal().channels == TEN_TWENTY

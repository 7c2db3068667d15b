"""A causal model that is fed chunk by chunk: the same outputs as at once, and how late they are."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eegdecode import models, stages
from eegdecode.data.config import RandomWindows
from eegdecode.data.store.dataset import Store
from eegdecode.evaluation import live
from eegdecode.evaluation.config import Stream
from eegdecode.models.bilstm import BiLSTM
from eegdecode.models.tcn import TCN
from eegdecode.models.transformer import Transformer
from eegdecode.preprocessing.steps.bandpass import Bandpass
from eegdecode.preprocessing.steps.notch import Notch
from eegdecode.preprocessing.steps.resample import Resample
from eegdecode.signals import SignalSpec
from eegdecode.training.config import Optim, Train
from hpc.rank.context import Context, Input, World
from hpc.runs.rundir import RunDir, read_json

CAUSAL = [TCN(width=8, blocks=3), Transformer(causal=True, width=16, heads=2, layers=1, patch=4)]
CPU = torch.device("cpu")


def context(run: Path) -> Context:
    return Context(World(), RunDir(run))


@pytest.fixture
def cfg(tiny_store: Store) -> Train:
    return Train(
        data=(Input(str(tiny_store.recordings[0].path.parent)),),
        windows=RandomWindows(length_s=1.0, batch=4),
        optim=Optim(steps=4, validate_every=2, warmup_steps=0, lr=0.01),
    )


def streamed(cfg: Train, folder: Path, **knobs: Any) -> dict[str, Any]:
    stages.train(cfg, context(folder / "train"))
    return stages.stream(Stream(Input(str(RunDir(folder / "train").out)), **knobs), context(folder / "stream"))


@pytest.mark.parametrize(("chunk", "wait"), [(1, (0, 3)), (3, (2, 5)), (64, (63, 63))])
@pytest.mark.parametrize("model", CAUSAL, ids=lambda model: model.name)
def test_what_is_streamed_is_what_is_decoded_at_once(
    model: Any, chunk: int, wait: tuple[int, int], cfg: Train, tmp_path: Path
) -> None:
    metrics = streamed(replace(cfg, model=model), tmp_path, chunk=chunk, most_s=4.0)
    assert metrics["verdict"].startswith("decodes as at once") and metrics["difference"] < 1e-4
    contents = read_json(RunDir(tmp_path / "stream").out / "stream.json") or {}
    assert (
        contents["equal"]
        and contents["seconds"] == pytest.approx(4, abs=chunk / 64)
        and contents["chunk_ms"] == chunk / 0.064
    )
    assert contents["wait_worst"] == pytest.approx(wait[model.name == "transformer"] / 0.064)
    assert 0 < contents["compute_median"] <= contents["compute_p95"] <= contents["compute_worst"]
    assert contents["delay_p95"] >= contents["wait_worst"] + contents["compute_median"]
    page = " ".join((RunDir(tmp_path / "stream").out / "stream.html").read_text().split())
    assert "Its filters have no delay because they look 6.76 s ahead" in page and "used the whole recording" in page


def test_others_are_refused_and_told_who_can(cfg: Train, tmp_path: Path) -> None:
    for name, model, which in (
        ("a", BiLSTM(hidden=4), "train is a bilstm, which"),
        ("b", Transformer(width=16, heads=2, layers=1), "train is a transformer with causal=false, which"),
    ):
        with pytest.raises(ValueError, match=f"{which} reads later samples.* train model=tcn or transformer with"):
            streamed(replace(cfg, model=model), tmp_path / name)
    with pytest.raises(ValueError, match="chunk must be at least 1 and most_s above 0, got 0 and 600"):
        Stream(Input("train-x"), chunk=0)


def test_a_network_that_forgets_is_not_called_equal(tmp_path: Path) -> None:
    class Forgetful(torch.nn.Module):
        """Says the mean of the two last samples; fed sample by sample it has but one."""

        spec, samples, causal, n_times = SignalSpec(("C3",), 64.0, 1, (), 64.0), 1, True, None

        def forward(self, x: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
            return (x + torch.cat([x[:, :1], x[:, :-1]], dim=1)) / 2

        def follow(self, x: torch.Tensor, memory: Any) -> tuple[torch.Tensor, Any]:
            return self(x, x), memory

    signal = torch.tensor([0.0, 1.0, 3.0])[None, :, None]
    took, away = live.follow(Forgetful().eval(), signal, 1, CPU, context(tmp_path))
    assert len(took) == 3 and away == pytest.approx(1.0)
    verdicts = [live.summarize(64.0, 1, 1, [took * 0], away, 0.0).verdict for away in (1e-4, 1.1e-4, float("nan"))]
    assert verdicts == ["decodes as at once, keeps up", *["decodes NOT as at once, keeps up"] * 2]


@pytest.mark.parametrize("model", CAUSAL, ids=lambda model: model.name)
def test_one_answer_a_window_is_that_of_all_of_it(model: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = models.build(model, SignalSpec(("C3", "C4"), 64.0, 3, ("a",))).eval()
    took, away = live.follow(network, torch.randn(1, 50, 2), 7, CPU, context(tmp_path))
    assert len(took) == 8 and away < 1e-5


def test_a_chunk_waits_for_those_before_it() -> None:
    lags = live.lags(np.array([0.5, 2.5, 0.1, 0.1, 0.1]), 1.0)
    assert lags.round(6).tolist() == [0.5, 2.5, 1.6, 0.7, 0.1]
    timing = live.summarize(1.0, 1, 1, [np.array([0.5, 2.5, 0.1, 0.1, 0.1])], 0.0, 0.0)
    assert timing.late_share == pytest.approx(2 / 5) and timing.delay_worst == pytest.approx(2500)
    assert timing.verdict == "decodes as at once, mostly keeps up"
    ahead = replace(timing, ahead=6760.0).verdict
    assert ahead == "decodes as at once, mostly keeps up, with signals whose preprocessing looked 6.76 s ahead"


@pytest.mark.parametrize(("samples", "chunk"), [(1, 1), (4, 1), (1, 8), (4, 3), (6, 4), (8, 8)])
def test_a_sample_waits_for_its_token_and_its_chunk(samples: int, chunk: int) -> None:
    waits = live.wait(samples, chunk)
    for number, waited in enumerate(waits):
        n_there = number + 1 + waited
        assert n_there % chunk == 0 and n_there // samples * samples > number
        assert (n_there - chunk) // samples * samples <= number, "one chunk earlier it was not heard"


def test_how_far_filters_look_ahead_is_counted_at_their_own_rate() -> None:
    high_pass = Bandpass(low_hz=0.5, high_hz=None)  # 3.3 / 0.5 Hz long, half of it to either side
    assert live.ahead_s([(500.0, (high_pass,))]) == pytest.approx(3.3, abs=0.01)
    assert live.ahead_s([(500.0, (high_pass, Resample(sfreq=100.0), high_pass))]) == pytest.approx(6.7, abs=0.02)
    assert live.ahead_s([(500.0, ()), (500.0, (Notch(hz=50.0),))]) == pytest.approx(3.3, abs=0.01)
    assert live.ahead_s([(64.0, (Resample(sfreq=64.0),))]) == 0

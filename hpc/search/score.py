"""The score of a trial, as its run folder has it: what was written there once, and does not change any more."""

import math
import time
from dataclasses import dataclass

from hpc.errors import ConfigError, first_of
from hpc.runs import records
from hpc.runs.rundir import RunDir, read_json, write_json
from hpc.runs.status import State


@dataclass(frozen=True)
class Score:
    """A metric of the run, and whether less of it is better."""

    metric: str
    is_loss: bool

    @classmethod
    def of(cls, text: str) -> "Score":
        """Parse `min:val_loss` or `max:val_accuracy`."""
        which, _, metric = text.partition(":")
        if which not in ("min", "max") or not metric:
            raise ConfigError(
                f"--by needs a metric of the run with the direction that is better, as min:val_loss or "
                f"max:val_accuracy, got {text!r}"
            )
        return cls(metric, which == "min")

    def value(self, loss: float) -> float:
        """Return the metric of a loss, as people read it."""
        return loss if self.is_loss else -loss

    def loss_of(self, run: RunDir, steps: int | None) -> float | None:
        """Return the metric of a run, turned so that less is better: infinite if it has failed, None if it is not known
        yet. `steps`: where a trial is compared before its end, by the best that it had until then."""
        if read_json(run.no_score):
            return math.inf
        is_finished = run.result.exists()
        if steps is not None:
            lines = [line for line in records.metrics(run) if self.metric in line]
            before = [self._loss(line[self.metric]) for line in lines if line["step"] <= steps]
            if before and (is_finished or any(line["step"] >= steps for line in lines)):
                return min(before)
        return self._of_result(run) if is_finished else None

    def _of_result(self, run: RunDir) -> float:
        metrics = records.result(run).get("metrics") or {}
        values = {name: value["value"] if isinstance(value, dict) else value for name, value in metrics.items()}
        numbers = {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
        if self.metric not in numbers:
            raise ConfigError(
                f"{run.name} has no number {self.metric} that could be its score: it has {_some(numbers)}"
            )
        return self._loss(numbers[self.metric])

    def _loss(self, value: float) -> float:
        return math.inf if math.isnan(value) else value if self.is_loss else -value


def _some(numbers: dict[str, float]) -> str:
    return first_of(sorted(numbers), 12) if numbers else "none"


def note_failure(run: RunDir, state: State) -> bool:
    """Note that a trial has failed by itself, so that it counts as one without a score for good, even if somebody
    resumes it. Not if it could not begin, or had too little time: then the search waits for it."""
    outcomes = [line["outcome"] for line in records.attempts(run)]
    if state.word != "failed" or outcomes[-1:] not in (["crashed"], ["hung"]):
        return False
    write_json(run.no_score, {"why": state.text, "time": time.time()})
    return True

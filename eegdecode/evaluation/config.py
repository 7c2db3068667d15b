"""The configs of evaluation. Light to import."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scoring:
    """How decoded trials are judged, and the linear baseline beside them."""

    n_null: int = 1000  # draws that chance is read from: p of one among 20 subjects needs 400 at least
    lags_s: float = 0.5  # the ridge sees the EEG from each instant to this much after it: the brain answers later
    window_s: float = 5.0  # of match-mismatch
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n_null < 100:
            raise ValueError(f"n_null must be at least 100, or p < 0.05 means little, got {self.n_null}")
        if self.lags_s < 0 or self.window_s <= 0:
            raise ValueError(f"lags_s must be 0 or more and window_s above 0, got {self.lags_s} and {self.window_s}")

"""The knobs of training. Light to import."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Optim:
    """AdamW; the rate rises over the first steps and falls to 0 as a cosine."""

    lr: float = 3e-3  # at its highest
    weight_decay: float = 0.01
    steps: int = 400
    warmup_steps: int = 20
    clip_norm: float = 1.0  # longest gradient: recurrent nets throw one now and then that would undo a lot
    validate_every: int = 50  # steps
    checkpoint_every: int | None = None  # steps; None: as often as pays. A run that is asked to stop saves as well
    keep_every: int = 0  # steps; checkpoints of its multiples are kept for good, of the others the last two; 0: none

    def __post_init__(self) -> None:
        if self.lr <= 0 or self.weight_decay < 0 or self.clip_norm <= 0:
            raise ValueError(
                "lr and clip_norm must be above 0, weight_decay at least 0, "
                f"got {self.lr}, {self.clip_norm} and {self.weight_decay}"
            )
        if min(self.steps, self.validate_every, 1 if self.checkpoint_every is None else self.checkpoint_every) < 1:
            raise ValueError(
                "steps, validate_every and checkpoint_every must be at least 1, "
                f"got {self.steps}, {self.validate_every} and {self.checkpoint_every}"
            )
        if self.keep_every < 0:
            raise ValueError(f"keep_every must be a number of steps, or 0 for none, got {self.keep_every}")
        if not 0 <= self.warmup_steps < self.steps:
            raise ValueError(f"warmup_steps must be fewer than steps ({self.steps}), got {self.warmup_steps}")

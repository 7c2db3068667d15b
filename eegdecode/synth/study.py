"""Make a synthetic study from its config; recordings are distributed over the ranks."""

from typing import Any

from eegdecode.synth import eeg2025, images, motor, movie, music, runs, speech
from eegdecode.synth.config import Study
from eegdecode.synth.tree import StudyPlan
from hpc.rank.context import Context, Preempted

PLANS: dict[str, Any] = {
    "music": music.plan,
    "music-runs": runs.plan,
    "meg-movie": movie.plan,
    "speech": speech.plan,
    "images": images.plan,
    "motor": motor.plan,
    "eeg2025": eeg2025.plan,
}


def make_study(cfg: Study, ctx: Context) -> dict[str, object]:
    """Write the study into ctx.out, recordings distributed over the ranks. Existing files are kept."""
    plan: StudyPlan = PLANS[cfg.name](cfg)
    if ctx.world.is_first:
        plan.describe(ctx.out)
    mine = ctx.world.share(sorted(plan.recordings))
    for done, name in enumerate(mine):
        ctx.progress("synthesize", done, len(mine))
        if ctx.should_stop():
            raise Preempted
        path = ctx.out / name
        if not path.is_file():
            plan.recordings[name](path)
    ctx.progress("synthesize", len(mine), len(mine))
    return dict(plan.counts)

"""Weights & Biases: online where a key and the server are, else offline in the run folder.

What it goes by is what its users know: WANDB_API_KEY, WANDB_PROJECT, WANDB_ENTITY, WANDB_MODE, WANDB_BASE_URL.
"""

import logging
import netrc
import os
import time
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eegdecode.training.trackers import wandb_file
from eegdecode.training.trackers.offline import PROJECT, is_reachable, secret
from eegdecode.training.trackers.tracker import LOSS, Histogram, Tracked

log = logging.getLogger(__name__)

QUIET = {
    "console": "off", "silent": True, "save_code": False, "disable_code": True, "disable_git": True,
    "x_disable_stats": True, "x_save_requirements": False, "init_timeout": 30.0, "finish_timeout": 60.0,
}  # fmt: skip
"""Our own log has the output, and provenance.json what it was computed with; nothing is written between log points."""

WHOLE_S = 10.0
"""Its own process may still write the last steps when the run has finished for it; a job that ends now would end that,
too."""


class Wandb:
    name, title = "wandb", "Weights & Biases"
    waits = True

    def __init__(self, tracked: Tracked) -> None:
        self.tracked = tracked
        self._run: Any = None

    def begin(self, safe: int) -> int:
        import wandb

        if self._run is not None:  # it has failed
            self._run = None
            wandb.teardown(exit_code=1)
        run = self.tracked.run
        logging.getLogger("wandb").propagate = False  # its errors are told in our words
        why = why_offline(run.path, os.environ, wandb.setup().settings.base_url)
        known = getattr(wandb.Settings, "model_fields", {})  # the names change between versions
        settings = {name: value for name, value in QUIET.items() if name in known}
        if "WANDB_API_KEY" not in os.environ and (key := secret("WANDB_API_KEY", os.environ)):
            settings["api_key"] = key
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT") or PROJECT,
                id=self.tracked.id,
                name=self.tracked.title,
                dir=str(run.path),
                config=dict(self.tracked.settings),
                resume="allow",
                mode="offline" if why else "online",
                settings=wandb.Settings(**settings),
            )
        except Exception:
            wandb.teardown(exit_code=1)  # else its process holds the id, and no other try can have it
            raise
        if why:
            log.info("Weights & Biases is written offline, as %s: `hpc sync %s` brings it to the server", why, run.name)
            return max((wandb_file.last_step(path, LOSS) for path in run.path.glob("wandb/*run-*/*.wandb")), default=0)
        log.info("Weights & Biases: %s", self._run.url)
        return max(0, int(self._run.starting_step) - 1)

    def scalars(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step, commit=True)  # pictures of a step come before its line

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        import wandb

        self._run.log({name: wandb.Image(pixels)}, step=step)

    def sound(self, step: int, name: str, samples: np.ndarray, sfreq: int) -> None:
        import wandb

        self._run.log({name: wandb.Audio(samples, sample_rate=sfreq)}, step=step)

    def histogram(self, step: int, name: str, histogram: Histogram) -> None:
        import wandb

        self._run.log({name: wandb.Histogram(np_histogram=(histogram.counts, histogram.edges))}, step=step)

    def summary(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.summary.update(dict(figures))

    def flush(self) -> None:
        """Its own process writes what it is given."""

    def close(self, finished: bool) -> None:
        if not finished:
            self._run.mark_preempting()
        self._run.finish(exit_code=0 if finished else 1)
        file, self._run = Path(self._run.settings.sync_file), None
        until = time.monotonic() + WHOLE_S
        while not wandb_file.is_whole(file) and time.monotonic() < until:
            time.sleep(0.02)


def why_offline(folder: Path, environ: Mapping[str, str], address: str) -> str:
    """Why a run is written offline, and not to the server at that address; empty: it is not. A run that has begun so
    stays so until it is synced: its parts are one curve only if they come one after another."""
    if (mode := environ.get("WANDB_MODE", "")) in ("offline", "dryrun"):
        return f"WANDB_MODE is {mode}"
    if unsynced(folder):
        return "it has begun so"
    if not secret("WANDB_API_KEY", environ) and not _in_netrc(address):
        return "there is no WANDB_API_KEY"
    return "" if is_reachable(address) else "this node does not reach the server"


def unsynced(folder: Path) -> list[Path]:
    """Files of this run that no sync has taken yet."""
    files = sorted(folder.glob("wandb/offline-run-*/*.wandb"))
    return [path for path in files if not path.with_name(f"{path.name}.synced").exists()]


def _in_netrc(address: str) -> bool:
    """Whether `wandb login` has been here."""
    try:
        return netrc.netrc().authenticators(urllib.parse.urlsplit(address).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False

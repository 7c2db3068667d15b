"""The stages that setup.cfg names: wiring only, in the order things happen.

A stage is a function `(cfg, ctx) -> metrics`. The annotation of `cfg` is its schema. What is heavy (torch, mne, h5py)
is imported when a stage runs, so that a config is checked on a login node without it. What can be checked before a job
is submitted stands beside the stage, `checked_by`.
"""

from collections.abc import Callable
from pathlib import Path

from eegdecode.data.config import Survey
from eegdecode.evaluation.config import Audit, Compare, Evaluate, Stream, Submission
from eegdecode.preprocessing.config import Preprocess
from eegdecode.synth.config import Study
from eegdecode.training.config import Estimate, Soup, Train, check_ranks
from hpc.config.stages import checked_by
from hpc.rank.context import Context, Input

Metrics = dict[str, object]
"""What a stage returns: numbers, or {"value": x, "chance": c} where there is a chance level to stand beside."""
Find = Callable[[Input], Path | None]
"""The folder or file that an input names; None where it is still to be made."""


def synthesize(cfg: Study, ctx: Context) -> Metrics:
    """Make up a study: real files in BIDS, with a planted effect."""
    from eegdecode.synth import study

    return study.make_study(cfg, ctx)


def survey(cfg: Survey, ctx: Context) -> Metrics:
    """What is in a study: subjects, runs, channels, rates, hours, labels; what is missing, damaged or there twice."""
    from eegdecode.data.survey import survey

    return survey.run(cfg, ctx)


def preprocess(cfg: Preprocess, ctx: Context) -> Metrics:
    """From a BIDS study to one HDF5 file a recording, shared out over the ranks; what is there already is kept."""
    from eegdecode.preprocessing import study

    return study.run(cfg, ctx)


def check_training(cfg: Train, n_ranks: int, find: Find) -> str:
    """Refuse what so many ranks cannot share; then what the data show that it cannot be trained with, where they are
    there. Says what would be trained."""
    check_ranks(cfg, n_ranks)
    folders = [folder for name in cfg.data if (folder := find(name)) is not None]
    if len(folders) < len(cfg.data):
        return ""
    try:
        from eegdecode.training import setup
    except ImportError as error:
        return f"not tried on its data ({error})"
    return setup.check(cfg, folders, find)


@checked_by(check_training)
def train(cfg: Train, ctx: Context) -> Metrics:
    """Fit a decoder to the training part, keep the parameters that did best on the validation part."""
    from eegdecode.training import loop

    return loop.fit(cfg, ctx)


@checked_by(check_training)
def estimate(cfg: Estimate, ctx: Context) -> Metrics:
    """Hours, GPU-hours and price of a training, from some steps of it on the machine where it runs."""
    from eegdecode.training import estimate

    return estimate.run(cfg, ctx)


def audit(cfg: Audit, ctx: Context) -> Metrics:
    """What in the data would make a decoder look better than it is: copies, leaks, units, sounds, confounds."""
    from eegdecode.evaluation import audit

    return audit.run(cfg, ctx)


def soup(cfg: Soup, ctx: Context) -> Metrics:
    """One model whose parameters are the mean of several's."""
    from eegdecode.training import soup

    return soup.run(cfg, ctx)


def check_models(cfg: Evaluate, n_ranks: int, find: Find) -> str:
    """Refuse several models that cannot decode together, where they are there."""
    folders = [folder for name in cfg.model if (folder := find(name)) is not None]
    if len(folders) < max(2, len(cfg.model)):
        return ""
    try:
        from eegdecode.evaluation.decode import predict
    except ImportError as error:
        return f"not tried together ({error})"
    return predict.checked(folders, cfg.weigh)


@checked_by(check_models)
def evaluate(cfg: Evaluate, ctx: Context) -> Metrics:
    """Decode the test part, compare with chance and with a linear baseline, write report.html."""
    from eegdecode.evaluation import evaluate

    return evaluate.run(cfg, ctx)


def compare(cfg: Compare, ctx: Context) -> Metrics:
    """Several evaluations on one page, in pairs over their subjects: folds, seeds, models."""
    from eegdecode.evaluation import compare

    return compare.run(cfg, ctx)


def submission(cfg: Submission, ctx: Context) -> Metrics:
    """A package for the EEG challenge of 2025, which runs where only torch is, and its score on the test part."""
    from eegdecode.evaluation import submission

    return submission.run(cfg, ctx)


def stream(cfg: Stream, ctx: Context) -> Metrics:
    """Decode the test part as it would come live: how late each chunk is, and whether it is decoded as at once."""
    from eegdecode.evaluation import live

    return live.run(cfg, ctx)

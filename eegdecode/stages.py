"""The stages that setup.cfg names, in the order of a pipeline: wiring only.

A stage is a function `(cfg, ctx) -> metrics`. The annotation of `cfg` is its schema. Heavy packages (torch, mne, h5py)
are imported when a stage runs, so that a login node can check a config without them. `checked_by` names the function
that checks a config against its inputs before the job is submitted; `with_meaning` says what changed in the results;
`imports`, for stages that take long, what a rank that died finds imported when it is back.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from eegdecode.data.config import Survey
from eegdecode.evaluation.config import Audit, Compare, Evaluate, Leaderboard, Stream, Submission
from eegdecode.features.config import Features
from eegdecode.preprocessing.config import Preprocess
from eegdecode.synth.config import Study
from eegdecode.training.config import Estimate, Soup, Train, check_ranks, is_lower_better, why_not_exact
from hpc.config.stages import (
    Searched,
    checked_by,
    curves,
    estimates,
    exact_unless,
    headline,
    imports,
    leaves,
    on_gpus,
    searched_by,
    with_meaning,
)  # fmt: skip
from hpc.rank.context import Context, Input

Metrics = dict[str, object]
"""The result of a stage: numbers, or {"value": x, "chance": c} if there is a chance level."""
CONTENTS = "eegdecode.exchange.contents:of_product"
"""What reads our products for `hpc replay`."""
PASSING = ("seconds", "*_s", "unwritten", "unseen", "accumulate")
"""What says how a training went: times, lines that waited for room, into how many parts its ranks have cut a batch."""
Find = Callable[[Input], Path | None]
"""Returns the folder or file that an input names; None if it does not exist yet."""


@headline("recordings", "subjects")
def synthesize(cfg: Study, ctx: Context) -> Metrics:
    """Synthesize a study: real BIDS files with a planted effect."""
    from eegdecode.synth import study

    return study.make_study(cfg, ctx)


@headline("hours")
def survey(cfg: Survey, ctx: Context) -> Metrics:
    """Survey a study: subjects, runs, channels, rates, hours, labels; missing, damaged and duplicate files."""
    from eegdecode.data.survey import survey

    return survey.run(cfg, ctx)


def check_features(cfg: Features, n_ranks: int, find: Find) -> str:
    """Refuse a study without stimuli, and a network that is not there, as far as names tell."""
    from eegdecode.features import check

    return check.check(cfg, find(cfg.study))


@on_gpus
@imports("eegdecode.features.extract")
@checked_by(check_features)
@leaves(values=CONTENTS)
@headline("stimuli")
def features(cfg: Features, ctx: Context) -> Metrics:
    """Make features of pictures, sounds, words or films with a network of yours, as a target for preprocess."""
    from eegdecode.features import extract

    return extract.run(cfg, ctx)


def check_preprocessing(cfg: Preprocess, n_ranks: int, find: Find) -> str:
    """Refuse events and labels that no recording of the study has, as far as names and tables tell, if it is there."""
    folder = find(cfg.study)
    if folder is None or not folder.is_dir():
        return ""
    from eegdecode.preprocessing import check

    return check.check(cfg, folder)


@imports("eegdecode.preprocessing.study")
@with_meaning(
    {
        2: "duration_s of events is the duration of every trial, where it was that of those without one, and trials "
        "that then reach beyond the end of the recording are left out; trials with a BAD_ annotation are dropped, and "
        "bad_channels looks at every sample for NaN and flat seconds; channels that are no signal by name or samples "
        "(gyro, counter, clock, ear lobes, triggers) are no EEG, channels.tsv is believed for units in any format, and "
        "numbers without a unit are scaled by their size; the course of a region that sources estimates is the first "
        "component of its data, where it was that of the operator",
    }
)
@checked_by(check_preprocessing)
@leaves(values=CONTENTS)
@headline("recordings")
def preprocess(cfg: Preprocess, ctx: Context) -> Metrics:
    """Preprocess a BIDS study to one HDF5 file per recording; ranks share the work, and existing files are kept."""
    from eegdecode.preprocessing import study

    return study.run(cfg, ctx)


def check_training(cfg: Train, n_ranks: int, find: Find) -> str:
    """Refuse a batch that the ranks cannot share evenly, and a config that does not fit its data, if these exist
    already. Returns a sentence on what would be trained, and one on the numbers that it computes in."""
    from eegdecode.training.trackers.installed import missing

    check_ranks(cfg, n_ranks)
    numbers = " · ".join(filter(None, [cfg.compute.numbers(), missing(cfg.watch.trackers)]))
    folders = [folder for name in cfg.data if (folder := find(name)) is not None]
    if len(folders) < len(cfg.data):
        return numbers
    try:
        from eegdecode.training import setup
    except ImportError as error:
        return f"not checked against its data ({error}) · {numbers}"
    return f"{setup.check(cfg, folders, find)} · {numbers}"


def _chosen_by(config: Mapping[str, Any]) -> str:
    """A search goes by the figure that chooses the step of a training."""
    by = config["optim"].get("choose_by", "loss")
    return f"{'min' if is_lower_better(by) else 'max'}:val_{by}"


@on_gpus
@imports("eegdecode.training.loop", "torch.utils.tensorboard")
@with_meaning(
    {
        2: "on several ranks, sums are rounded in another order, and batch norms are validated with the same "
        "statistics on all of them",
        3: "the statistics of batch norms are estimated anew from training windows before each validation and for each "
        "snapshot, where they were running means, which lag behind in short trainings",
    }
)
@exact_unless(why_not_exact)
@searched_by(
    Searched(
        _chosen_by,
        steps="optim.steps",
        every="optim.validate_every",
        fixed=("data", "target", "objective", "split"),
        without=("optim.halving",),
    )
)
@checked_by(check_training)
@leaves(values=CONTENTS, passing=PASSING)
@headline("val_balanced_accuracy", "val_accuracy", "val_r", "val_loss")
@curves("val_loss", "loss", "val_*", "accuracy", "r", "lr")
def train(cfg: Train, ctx: Context) -> Metrics:
    """Train a decoder on the training set; keep the parameters that are best on the validation set."""
    from eegdecode.training import loop

    return loop.fit(cfg, ctx)


@on_gpus
@estimates("train")
@with_meaning({2: "without a GPU it gives CPU-hours and no price, where it gave GPU-hours that nobody spends"})
@checked_by(check_training)
@headline("gpu_hours", "cpu_hours", "hours")
def estimate(cfg: Estimate, ctx: Context) -> Metrics:
    """Estimate what a training costs, in hours, GPU-hours (without a GPU CPU-hours) and money, from a few steps."""
    from eegdecode.training import estimate

    return estimate.run(cfg, ctx)


@headline("findings")
def audit(cfg: Audit, ctx: Context) -> Metrics:
    """Audit the data for everything that inflates a decoder's results: copies, leaks, units, sounds, confounds."""
    from eegdecode.evaluation import audit

    return audit.run(cfg, ctx)


@on_gpus
@leaves(values=CONTENTS)
@headline("val_balanced_accuracy", "val_accuracy", "val_r", "val_loss")
def soup(cfg: Soup, ctx: Context) -> Metrics:
    """Average the parameters of several models."""
    from eegdecode.training import soup

    return soup.run(cfg, ctx)


def check_models(cfg: Evaluate, n_ranks: int, find: Find) -> str:
    """Refuse several models that cannot decode together and are no cross-validation, if they exist already."""
    folders = [folder for name in cfg.model if (folder := find(name)) is not None]
    if len(folders) < max(2, len(cfg.model)):
        return ""
    try:
        from eegdecode.evaluation.cross_validation import run as cross_validation
        from eegdecode.evaluation.decode import predict
    except ImportError as error:
        return f"not checked together ({error})"
    if folds := cross_validation.chosen(folders, cfg):
        return cross_validation.sentence(folds)
    return predict.check(folders, cfg.weigh)


@imports("eegdecode.evaluation.evaluate")
@with_meaning(
    {
        2: "the baseline csp is MNE's with scikit-learn's LDA, riemann is new, and baselines decode the whole of a "
        "large test set",
        3: "the null permutes what is exchangeable, as blocks and recordings, and that of numbers drifts as they do; "
        "what too few units cannot decide, or what is confounded, is said in the verdict",
        4: "penalties of linear decoders are chosen on the validation set; mdm, evoked, xdawn, fbcca, trca and "
        "filterbank are new; what a confound of the labels, or a copy or sound of an audit, may explain is said in the "
        "verdict",
        5: "sounds are judged by how much nearer they are to the true piece than to others in mel levels, where it was "
        "r of waveforms; their log-spectral and multi-resolution STFT distances are new, and r, rank accuracy and "
        "match-mismatch of waveforms are gone; report.json has the lags of the ridge; of several settings, a fold "
        "chooses by the figure of optim.choose_by, where it was the loss, and linear decoders choose out of as many as "
        "the network",
        6: "where classes, people, candidates or recordings allow few orders, all are tried, so that p is exact and of "
        "no seed; folds of a retrieval are permuted independently; over candidates, a difference counts windows alike",
        7: "the interval over subjects ends where the metric does, as a balanced accuracy at 1",
    }
)
@checked_by(check_models)
@leaves(values=CONTENTS)
@headline("balanced_accuracy", "top5", "top1", "r")
def evaluate(cfg: Evaluate, ctx: Context) -> Metrics:
    """Decode the test set, compare with chance and linear baselines, write report.html."""
    from eegdecode.evaluation import evaluate

    return evaluate.run(cfg, ctx)


def check_comparison(cfg: Compare, n_ranks: int, find: Find) -> str:
    """Refuse one run alone, which has nothing to be compared with."""
    if len(cfg.runs) == 1 and not cfg.named:
        raise ValueError(f"compare needs two finished evaluations at least, got {cfg.runs[0]} alone: say runs=[a,b]")
    return ""


@with_meaning(
    {
        2: "the folds and seeds of one decoder are one result, so that no fold is the best; linear decoders are rows "
        "too, and pairs are compared over units as well",
    }
)
@checked_by(check_comparison)
def compare(cfg: Compare, ctx: Context) -> Metrics:
    """Compare decoders on one page, pairwise over subjects and units; over several studies with ranks."""
    from eegdecode.evaluation import compare

    return compare.run(cfg, ctx)


@with_meaning({2: "p and verdict of a row are of all its folds and seeds together, where each run had its own verdict"})
def leaderboard(cfg: Leaderboard, ctx: Context) -> Metrics:
    """Show evaluations of a protocol beside its published table: what `hpc bench` ends with."""
    from eegdecode.evaluation import leaderboard

    return leaderboard.run(cfg, ctx)


@headline("overall", "nrmse_*")
def submission(cfg: Submission, ctx: Context) -> Metrics:
    """Build a package for the EEG challenge of 2025 or the competition of 2026, which needs only torch, and score it on
    the test set."""
    from eegdecode.evaluation import submission, submission_2026

    return (submission_2026 if cfg.track else submission).run(cfg, ctx)


@headline("late_share")
def stream(cfg: Stream, ctx: Context) -> Metrics:
    """Stream the test set as a live signal: the latency of each chunk, and whether outputs equal those at once."""
    from eegdecode.evaluation import live

    return live.run(cfg, ctx)

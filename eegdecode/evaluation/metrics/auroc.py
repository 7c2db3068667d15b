"""The area under the ROC curve, each class against the rest."""

from eegdecode.evaluation.metrics import Decoded, Metric, Scoring
from eegdecode.evaluation.statistics.confusion import truth
from eegdecode.training.validator import mean_auroc


def score(decoded: Decoded, cfg: Scoring) -> float:
    return mean_auroc(truth(decoded), decoded.output)


AUROC = Metric(
    "auroc",
    "AUROC",
    "how often a window of a class has a higher score for it than a window of another class.",
    ("classes",),
    score,
    chance=0.5,
    order=30,
)

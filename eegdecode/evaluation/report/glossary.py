"""What the report says of metrics: the label and the explanation that each declares, the null of each kind of task."""

from eegdecode.evaluation.decode.predictions import Kind
from eegdecode.evaluation.metrics import metrics

KINDS: dict[Kind, str] = {
    "sequence": "The chance level of r is that of other test pieces at the same instants. p of r is the larger of two: "
    "against the piece rotated in time, alike for all subjects, which keeps its loudness and rhythm; and against a "
    "rotation of only what differs from the other test pieces, so that what all trials share, as their fade-in, "
    "counts for nothing. The null of ranks, spectra and spectrograms permutes the pieces. Sounds are scored on the "
    "first ten seconds of a hundred trials at most. <b>Ridge</b> decodes each instant linearly from the signals "
    "shortly after it: one decoder per subject, or one for all if a subject has no training trials. The validation set "
    "determines its penalty, as it determines the network's step.",
    "classes": "The null permutes the classes among the trials of each subject, or among subjects if each has one "
    "class. <b>CSP</b> (common spatial patterns between 8 and 30 Hz, then LDA), <b>bandpower</b> (the power of each "
    "channel in five bands, then logistic regression) and <b>Riemann</b> (covariances in the tangent space of their "
    "Riemannian mean, then logistic regression) are linear decoders of the same windows: one per subject, or one for "
    "all if a subject has no training windows.",
    "retrieval": "The null permutes the candidates, alike for all windows of one. <b>Ridge</b> maps the window, "
    "averaged to a few instants, linearly to the embedding.",
    "values": "The null rotates the target of each recording in time, or permutes it among the windows of a subject "
    "whose recordings have few; among subjects if each has one value. <b>Ridge</b> maps the window, averaged to a few "
    "instants, linearly to the numbers.",
}
"""The null and the baselines, by kind of task."""


def label(kind: Kind, name: str) -> str:
    """The label of a metric, with its unit."""
    return metrics(kind)[name].title


def explanation(kind: Kind, name: str) -> str:
    """How a metric is computed."""
    return metrics(kind)[name].explanation

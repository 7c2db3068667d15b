"""The label of each metric in the report, and a sentence on how it is computed."""

from typing import NamedTuple

from hpc.config import plugins


class Term(NamedTuple):
    label: str
    how: str


TERMS = {
    "r": Term("r", "Pearson's correlation of decoded and true: 1 is perfect, 0 unrelated."),
    "r_pooled": Term(
        "r, pooled",
        "the same over the windows of all subjects together. Its chance level is that of the mean of each recording.",
    ),
    "rank_accuracy": Term(
        "Rank accuracy",
        "the share of the other test pieces that fit a decoded trial worse than the true piece does, by r in time; all "
        "cut to the length of the shortest.",
    ),
    "match_mismatch": Term(
        "Match-mismatch",
        "how often a few seconds of a decoded trial fit the same seconds of the piece better than other seconds of it. "
        "A decoder that only knows when trials fade in and out is above 0.5 too, so it does not decide the verdict.",
    ),
    "spectrum_r": Term(
        "r of spectra",
        "Pearson's correlation of power spectra (Daly 2023). Its chance level is that of other test pieces, and far "
        "above 0, as all music has similar spectra.",
    ),
    "spectrum_rank": Term("Rank, of spectra", "as rank accuracy, by the r of spectra."),
    "ssim": Term(
        "SSIM",
        "structural similarity of spectrograms, in 7 × 7 windows. Its chance level is that of other test pieces.",
    ),
    "ssim_rank": Term("Rank, of spectrograms", "as rank accuracy, by SSIM: the rank accuracy of Daly 2023."),
    "si_sdr_db": Term("SI-SDR, dB", "the scale-invariant ratio of the true waveform to the error in the decoded one."),
    "mcd_db": Term(
        "Mel-cepstral distortion, dB",
        "the distance of the smoothed spectra, mean over frames; the lower, the better.",
    ),
    "like_zero_crossings": Term("Similarity of zero crossings", "one minus the relative difference of their rates."),
    "like_rhythm": Term("Similarity of rhythm", "r of the autocorrelations of onsets within two seconds."),
    "like_chroma": Term("Similarity of chroma", "the cosine between the powers of the twelve notes."),
    "like_energy": Term("Similarity of loudness", "r of loudness over frames."),
    "like_contrast": Term("Similarity of contrast", "of the height of peaks above valleys in each octave."),
    "like_perceptual": Term("Perceptual similarity", "r of the loudness of mel bands over syllables of 0.4 s."),
    "like_weighted": Term("Overall similarity", "the weighted sum of these six, each 1 for the same sound."),
    "pesq": Term("PESQ", "a quality score of telephone speech, from 1 to 4.5; of music it says little."),
    "balanced_accuracy": Term("Balanced accuracy", "the share of windows classified correctly, the mean over classes."),
    "kappa": Term("Cohen's kappa", "agreement above that expected by chance, 1 for perfect agreement."),
    "weighted_f1": Term("Weighted F1", "the harmonic mean of precision and recall, weighted by class frequency."),
    "auroc": Term("AUROC", "how often a window of a class has a higher score for it than a window of another class."),
    "rank": Term("Rank", "the share of the other candidates that are less similar to the output than the right one."),
    "nrmse": Term(
        "nRMSE",
        "the root mean squared error in standard deviations of the target, 1 for always predicting the mean; the "
        "lower, the better.",
    ),
    "top1": Term("Top 1", "how often the right candidate is most similar to the output, by the cosine."),
    "top5": Term("Top 5", "how often it is among the first five."),
    "top10": Term("Top 10", "how often it is among the first ten."),
    "top1_of_200": Term("Top 1 of 200", "the same as top 1 among 200 candidates, the right one and 199 random ones."),
    "top5_of_200": Term("Top 5 of 200", "the same as top 5 among 200 candidates."),
}
KINDS = {
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


def term(name: str) -> Term:
    """The label of a metric and how it is computed; of one that another package brings, as that says."""
    if name in TERMS:
        return TERMS[name]
    metric = plugins.load(plugins.points("eegdecode.metrics")[name])
    return Term(metric.label, metric.how)

"""What each figure is called, and how it is made, in words."""

from typing import NamedTuple


class Term(NamedTuple):
    label: str
    how: str


TERMS = {
    "r": Term("r", "Pearson's correlation of decoded and true: 1 is perfect, 0 unrelated."),
    "r_pooled": Term(
        "r, pooled",
        "the same over the windows of all subjects together. Its chance is what the mean of each recording gives.",
    ),
    "rank_accuracy": Term(
        "Rank accuracy",
        "the share of the other test pieces that fit a decoded trial worse than the true piece does, by r in time; all "
        "cut to the length of the shortest.",
    ),
    "match_mismatch": Term(
        "Match-mismatch",
        "how often a few seconds of a decoded trial fit the same seconds of the piece better than other seconds of it. "
        "Who knows when trials fade in and out is above 0.5 as well, so no verdict goes by it.",
    ),
    "spectrum_r": Term(
        "r of spectra",
        "Pearson's correlation of power spectra (Daly 2023). Its chance is what other test pieces give, and lies far "
        "above 0, as all music has like spectra.",
    ),
    "spectrum_rank": Term("Rank, of spectra", "as rank accuracy, by the r of spectra."),
    "ssim": Term(
        "SSIM",
        "structural similarity of spectrograms, in 7 × 7 windows. Its chance is what other test pieces give.",
    ),
    "ssim_rank": Term("Rank, of spectrograms", "as rank accuracy, by SSIM: the rank accuracy of Daly 2023."),
    "si_sdr_db": Term(
        "SI-SDR, dB", "how far the true waveform stands above what is wrong in the decoded one, at any loudness."
    ),
    "mcd_db": Term(
        "Mel-cepstral distortion, dB",
        "how far the smooth shapes of the spectra lie apart, mean over frames; the less, the better.",
    ),
    "like_zero_crossings": Term("Alike in zero crossings", "one less how far their rates lie apart."),
    "like_rhythm": Term("Alike in rhythm", "r of how onsets repeat themselves within two seconds."),
    "like_chroma": Term("Alike in chroma", "the cosine between the powers of the twelve notes."),
    "like_energy": Term("Alike in loudness", "r of loudness over frames."),
    "like_contrast": Term("Alike in contrast", "how far peaks stand above valleys in each octave, compared."),
    "like_perceptual": Term("Alike to the ear", "r of the loudness of mel bands over syllables of 0.4 s."),
    "like_weighted": Term("Alike in all", "the weighted sum of these six, each 1 for the same sound."),
    "pesq": Term("PESQ", "a judgement of telephone speech, from 1 to 4.5; of music it says little."),
    "balanced_accuracy": Term("Balanced accuracy", "the share of windows that are told right, the mean over classes."),
    "kappa": Term("Cohen's kappa", "how far the share that is right lies above that of chance, 1 for all."),
    "weighted_f1": Term("Weighted F1", "the mean of precision and recall of each class, by how often it occurs."),
    "auroc": Term("AUROC", "how often a window of a class is given more of it than one of another class."),
    "rank": Term("Rank", "the share of the other candidates that are less like what was decoded than the right one."),
    "nrmse": Term(
        "nRMSE",
        "the error in standard deviations of the truth, 1 for one who always says the mean; the less, the better.",
    ),
    "top1": Term("Top 1", "how often the right candidate is most like what was decoded, by the cosine."),
    "top5": Term("Top 5", "how often it is among the first five."),
    "top10": Term("Top 10", "how often it is among the first ten."),
    "top1_of_200": Term("Top 1 of 200", "the same as top 1 among 200 candidates, the right one and others by chance."),
    "top5_of_200": Term("Top 5 of 200", "the same as top 5 among 200 candidates."),
}
KINDS = {
    "sequence": "Chance of r is what other test pieces give at the same instants. p of r is the larger of two: the "
    "piece rotated in time, alike for all who heard it, which keeps its loudness and rhythm; and the same of what sets "
    "the piece apart from the other test pieces, so that what all trials share, as how they fade in, proves nothing. "
    "Chance of ranks, spectra and spectrograms deals the pieces out anew. Sounds are judged by the first ten "
    "seconds of a hundred trials at most. <b>Ridge</b> decodes each instant from the signals shortly after it, "
    "linearly: a decoder for each subject, or one for all where a subject has no training trials. Validation trials "
    "choose its penalty, as they choose the network's step.",
    "classes": "Chance deals the classes out anew among the trials of each subject, or among subjects where each has "
    "one. <b>CSP</b> and <b>band powers</b> are linear decoders of the same windows: one for each subject, or one for "
    "all where a subject has no training windows.",
    "retrieval": "Chance deals the candidates out anew, alike for all windows of one. <b>Ridge</b> goes linearly from "
    "the window, averaged to a few instants, to the embedding.",
    "values": "Chance rotates the truth of each recording in time, or deals it out anew among the windows of a subject "
    "whose recordings have few; among subjects where each has one value. "
    "<b>Ridge</b> goes linearly from the window, averaged to a few "
    "instants, to the numbers.",
}
"""What chance and the baselines are, by kind of task."""

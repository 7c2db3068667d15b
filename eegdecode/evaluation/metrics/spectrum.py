"""Pearson's r of decoded and true power spectra (Daly, Sci Rep 13:624), and the rank of the true piece by it.

The chance level of r is the value of other pieces, which is far above 0, as all music has similar spectra.
"""

from eegdecode.evaluation.metrics._fits import of_fit, of_rank

SPECTRUM_R = of_fit(
    "spectrum",
    "spectrum_r",
    "r of spectra",
    "Pearson's correlation of power spectra (Daly 2023). Its chance level is that of other test pieces, and far above "
    "0, as all music has similar spectra.",
    order=30,
)
SPECTRUM_RANK = of_rank(
    "spectrum", "spectrum_rank", "Rank, of spectra", "as rank accuracy, by the r of spectra.", order=31
)

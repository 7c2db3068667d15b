"""Structural similarity of decoded and true spectrograms (Wang 2004), and the rank of the true piece by it.

The latter is the rank accuracy of Daly (Sci Rep 13:624).
"""

from eegdecode.evaluation.metrics._fits import of_fit, of_rank

SSIM = of_fit(
    "ssim",
    "ssim",
    "SSIM",
    "structural similarity of spectrograms, in 7 × 7 windows. Its chance level is that of other test pieces.",
    order=40,
)
SSIM_RANK = of_rank(
    "ssim", "ssim_rank", "Rank, of spectrograms", "as rank accuracy, by SSIM: the rank accuracy of Daly 2023.", order=41
)

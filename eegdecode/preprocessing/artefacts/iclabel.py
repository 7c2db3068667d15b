"""Labels of components by the network ICLabel (Pion-Tonachini et al. 2019), of the package mne-icalabel."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from eegdecode.preprocessing.artefacts.components import Components, Judged
from eegdecode.signals import Stream

if TYPE_CHECKING:
    import mne

LABELS = ("brain", "muscle", "eog", "ecg", "line_noise", "ch_noise", "other")
"""In the order of the network's outputs, as MNE calls them."""
WORDS = ("the brain", "a muscle", "eye blinks", "heart beats", "the mains", "one channel's noise", "something else")
MOST_VALUES = 1 << 23
"""Of the signal that the network's features are computed from: 64 MiB, from the middle of the recording."""


def judged(rules: Sequence[Judged], stream: Stream, of: Components, proba: float) -> list[Judged]:
    """Each component with the label of the network in front, where that is sure enough. It was trained on an average
    reference and 1 to 100 Hz, which `stream` has as far as its rate allows."""
    try:
        from mne_icalabel.iclabel import iclabel_label_components
    except ImportError:
        raise ValueError(
            "ica.labels=iclabel needs the package mne-icalabel, which is not installed: pip install mne-icalabel, or "
            "set labels=rules"
        ) from None

    if others := [name for name in of.channels if stream.sensor(name).kind != "eeg"]:
        raise ValueError(
            f"ICLabel knows EEG only, not {', '.join(others[:5])}: pick kinds: [eeg] before, or set labels=rules"
        )
    if unplaced := [name for name in of.channels if stream.sensor(name).position is None]:
        raise ValueError(
            f"ICLabel looks at maps of the head, but the position of {', '.join(unplaced[:5])} is not known: put "
            "set_channels or aliases before, pick the others, or set labels=rules"
        )
    raw = _raw(stream, of)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about FastICA and what the header says of filters
        probabilities = iclabel_label_components(raw, _ica(raw, of), inplace=False, backend="torch")
    for one, row in zip(rules, probabilities, strict=True):
        best = int(row.argmax())
        if row[best] >= proba and LABELS[best] != "brain":
            one.labels.insert(0, LABELS[best])
            one.reasons.insert(0, f"ICLabel: {WORDS[best]}, {100 * row[best]:.0f} %")
        elif row[best] >= proba:
            one.reasons.insert(0, f"ICLabel: {WORDS[best]}, {100 * row[best]:.0f} %")
    return list(rules)


def _raw(stream: Stream, of: Components) -> "mne.io.RawArray":
    import mne

    n_times = min(stream.n_times, MOST_VALUES // len(of.channels))
    first = (stream.n_times - n_times) // 2
    columns = [stream.channels.index(name) for name in of.channels]
    data = stream.read(first, first + n_times)[:, columns].T.astype(np.float64)
    info = mne.create_info(list(of.channels), stream.sfreq, "eeg")
    places = {name: stream.sensor(name).position for name in of.channels}
    info.set_montage(mne.channels.make_dig_montage(places, coord_frame="head"))
    return mne.io.RawArray(data, info, verbose="error")


def _ica(raw: "mne.io.RawArray", of: Components) -> "mne.preprocessing.ICA":
    """Our components as mne's: its 'PCA' is a basis of what they span."""
    import mne

    left, strength, basis = np.linalg.svd(of.unmixing, full_matrices=False)
    n = len(of.unmixing)
    ica = mne.preprocessing.ICA(n_components=n, method="fastica", verbose="error")
    ica.info, ica.ch_names, ica.n_components_ = raw.info, list(of.channels), n
    ica.pre_whitener_ = of.unit[:, None]
    ica.pca_components_, ica.pca_mean_ = basis, np.zeros(len(of.channels))
    ica.pca_explained_variance_ = np.ones(n)
    ica.unmixing_matrix_ = left * strength
    ica.mixing_matrix_ = np.linalg.pinv(ica.unmixing_matrix_)
    ica.n_pca_components = n
    ica.current_fit, ica.exclude, ica.labels_, ica.n_iter_ = "raw", [], {}, 0
    ica._update_ica_names()
    return ica

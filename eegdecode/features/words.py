"""Words as a network wants them: the tokens of its own tokenizer, or the texts themselves."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from eegdecode.data.io import bids
from eegdecode.data.io.guard import Refused
from eegdecode.features.config import Words
from eegdecode.features.network import Encoder, pooled
from eegdecode.features.sounds import Clock


class Texts:
    """The vectors of texts."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._tokenizer = None if encoder.processors is None else encoder.processors.words()
        if self._tokenizer is not None and self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token  # GPT-2 has none; what is padding is masked
        if self._tokenizer is not None:
            self._tokenizer.padding_side = "right"

    def vectors(self, texts: list[str]) -> np.ndarray:
        """[text, feature]."""
        what = f"{len(texts)} texts, the first {texts[0][:40]!r}"
        if self._tokenizer is None:
            return pooled(self.encoder, self.encoder(what, texts), len(texts), "texts")
        tokens = dict(self._tokenizer(texts, return_tensors="pt", padding=True, truncation=True))
        lengths = [int(n) for n in tokens["attention_mask"].sum(dim=1)]
        output = self.encoder(what, **tokens)
        return pooled(self.encoder, output, len(texts), "texts", lengths if output.ndim == 3 else ())


class Transcripts:
    """Each word holds from its onset until it ends, or the next begins: a stream without anything in between."""

    def __init__(self, encoder: Encoder, cfg: Words) -> None:
        self._texts, self.cfg = Texts(encoder), cfg
        self.clock = Clock(float(cfg.sfreq), 0.0)

    def blocks(self, path: Path, beat: Callable[[], None]) -> Iterator[np.ndarray]:
        """[time, feature], up to the end of the last word; 0 where there is none."""
        texts, begins, ends = timed(self.cfg, path)
        batch, rate = self._texts.encoder.cfg.batch, self.cfg.sfreq
        filled = 0
        for at in range(0, len(texts), batch):
            beat()
            vectors = self._texts.vectors(texts[at : at + batch])
            following = [*begins[at + 1 : at + batch + 1], math.inf][: len(vectors)]
            for vector, begin, end, then in zip(
                vectors, begins[at : at + batch], ends[at : at + batch], following, strict=True
            ):
                first, stop = (math.ceil(time_s * rate - 1e-6) for time_s in (begin, min(end, then)))
                yield np.zeros((max(0, first - filled), len(vector)), np.float32)
                yield np.repeat(vector[None], max(0, stop - max(first, filled)), axis=0)
                filled = max(filled, stop)


def timed(cfg: Words, transcript: Path) -> tuple[list[str], list[float], list[float]]:
    """The texts of a transcript, and when each begins and ends, in seconds. Without a duration it lasts to the next."""
    rows = bids.read_tsv(transcript)
    if not rows:
        raise Refused(f"{transcript} has no row: write its words with their onset, or remove it")
    words, begins = [row[cfg.column] for row in rows], [_seconds(transcript, row, "onset") for row in rows]
    if begins != sorted(begins):
        raise Refused(f"{transcript} has onsets that do not rise: sort its rows by onset")
    ends = [
        begin + _seconds(transcript, row, "duration")
        if row.get("duration", "n/a") not in ("", "n/a")
        else (begins[place + 1] if place + 1 < len(rows) else begin + LAST_S)
        for place, (row, begin) in enumerate(zip(rows, begins, strict=True))
    ]
    texts = [" ".join(words[max(0, place - cfg.context) : place + 1]) for place in range(len(words))]
    return texts, begins, ends


LAST_S = 0.5
"""How long the last word of a transcript without durations lasts."""


def _seconds(path: Path, row: dict[str, str], column: str) -> float:
    try:
        value = float(row[column])
    except (ValueError, KeyError):
        raise Refused(f"{path} says {row.get(column)!r} as {column}, which is no number of seconds") from None
    if not 0 <= value < 1e6:
        raise Refused(f"{path} says {value:g} s as {column}, which is no time in a stimulus")
    return value

"""Pictures as a network wants them: [colour, height, width], resized, the mean subtracted."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from eegdecode.data.io import guard
from eegdecode.features.config import Films, Pictures
from eegdecode.features.network import Encoder


@dataclass(frozen=True)
class Preparation:
    """The size of pictures, and their colours."""

    height: int
    width: int
    shorter: int
    """The shorter side before the middle is taken; 0: nothing is cut off."""
    mean: np.ndarray
    std: np.ndarray
    resample: int = int(Image.Resampling.BICUBIC)

    def colours(self, pixels: np.ndarray) -> np.ndarray:
        """[…, colour, height, width], float32, of [… height, width, colour] from 0 to 255."""
        values = (pixels.astype(np.float32) / 255 - self.mean) / self.std
        return np.moveaxis(values.astype(np.float32), -1, -3)


def preparation(cfg: Pictures | Films, encoder: Encoder) -> Preparation:
    """What the config says, or the processor of a network of transformers."""
    crop = isinstance(cfg, Pictures) and cfg.crop
    own = Preparation(
        cfg.height,
        cfg.width,
        min(cfg.height, cfg.width) if crop else 0,
        np.array(cfg.mean, np.float32),
        np.array(cfg.std, np.float32),
    )
    if encoder.processors is None:
        return own
    known = encoder.processors.pictures()
    size, cropped = known.get("size") or {}, known.get("crop_size") or {}
    size, cropped = ({"height": s, "width": s} if isinstance(s, int) else s for s in (size, cropped))
    crop = crop and bool(known.get("do_center_crop", bool(cropped)))
    final = cropped if crop and cropped else size
    height = int(final.get("height") or final.get("shortest_edge") or cfg.height)
    width = int(final.get("width") or final.get("shortest_edge") or cfg.width)
    shorter = int(size.get("shortest_edge") or min(height, width)) if crop else 0
    resample = int(known.get("resample", own.resample))
    if known.get("do_normalize", True) and known.get("image_mean"):
        own = replace(own, mean=np.array(known["image_mean"], np.float32), std=np.array(known["image_std"], np.float32))
    return replace(own, height=height, width=width, shorter=shorter, resample=resample)


def read(path: Path, how: Preparation) -> np.ndarray:
    """A picture, [colour, height, width]. A transparent one lies on white. Raises Refused if it cannot be read."""
    guard.regular(path)
    with guard.reading(path, "fetch it again"), Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened)
        if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        elif picture.mode.startswith("I") or picture.mode == "F":
            raise guard.Refused(
                f"{path} has pixels of mode {picture.mode}, not of 8 bits a colour: save it as 8-bit PNG"
            )
        picture = picture.convert("RGB")
        if how.shorter:
            scale = max(how.shorter / picture.width, how.shorter / picture.height, how.width / picture.width,
                        how.height / picture.height)  # fmt: skip
            size = (max(how.width, round(picture.width * scale)), max(how.height, round(picture.height * scale)))
            picture = picture.resize(size, Image.Resampling(how.resample))
            left, top = (size[0] - how.width) // 2, (size[1] - how.height) // 2
            picture = picture.crop((left, top, left + how.width, top + how.height))
        else:
            picture = picture.resize((how.width, how.height), Image.Resampling(how.resample))
        return how.colours(np.asarray(picture))


def given(encoder: Encoder, batch: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """How a network is called with a batch of pictures or clips."""
    return ((), {"pixel_values": batch}) if encoder.processors is not None else ((batch,), {})

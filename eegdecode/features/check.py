"""What a plan can know of features without torch: that there are stimuli, and that the network is there."""

from importlib import util
from pathlib import Path

from eegdecode.features.config import Features, Hub
from eegdecode.features.find import find


def check(cfg: Features, study: Path | None) -> str:
    """Refuse a study without stimuli, if it is there, and the lack of transformers. Returns how many stimuli there
    are."""
    if isinstance(cfg.network, Hub):
        refuse_no_transformers()
    if study is None:
        return ""
    return f"{len(find(cfg, study))} {cfg.stimuli.name}"


def refuse_no_transformers() -> None:
    if util.find_spec("transformers") is None:
        raise ValueError(
            "features.network=transformers needs the package transformers: pip install 'hpc-eegdecode[hub]'; or give "
            "your own module with features.network=module"
        )

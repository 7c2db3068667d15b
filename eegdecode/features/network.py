"""Load a network, choose one of its layers, and make one vector of what it gives.

What goes wrong in a network of somebody's own is one sentence, a `ValueError` that says which setting to correct.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from eegdecode.data.io import guard
from eegdecode.data.io.readers import safetensors
from eegdecode.features.check import refuse_no_transformers
from eegdecode.features.config import Features, Hub, Module, TorchScript
from hpc.config import input_file
from hpc.config.plugins import load as load_object
from hpc.errors import did_you_mean, first_of

log = logging.getLogger(__name__)

KEYS = ("last_hidden_state", "image_embeds", "text_embeds", "pooler_output", "embeddings", "features")
"""Of several outputs, the one to take: first the most detailed."""


class Encoder:
    """A network, and the layer whose values are the features. It gives float32 on the CPU, [batch, …]."""

    def __init__(self, cfg: Features, device: torch.device) -> None:
        self.cfg, self.device = cfg, device
        self.processors = Processors(cfg.network) if isinstance(cfg.network, Hub) else None
        net, self.note = _network(cfg.network)
        self.net = net.to(device).eval()
        self.name = f"{_named(cfg.network)}{f', {cfg.layer}' if cfg.layer else ''}"
        commit = getattr(getattr(self.net, "config", None), "_commit_hash", None) or ""
        self.identity = f"{self.name} {commit}"
        """Its name, and the commit of the hub: of another one, nothing is continued."""
        self._seen: list[Any] = []
        self._called = _called(self.net, cfg.call)
        if cfg.layer:
            _layer(self.net, cfg.layer).register_forward_hook(lambda _module, _given, output: self._seen.append(output))

    def __call__(self, what: str, *given: Any, **named: Any) -> torch.Tensor:
        """The output for a batch; `what` describes the batch, for messages."""
        self._seen.clear()
        given, named = tuple(map(self._moved, given)), {key: self._moved(value) for key, value in named.items()}
        try:
            with torch.inference_mode():
                output = self._called(*given, **named)
        except torch.cuda.OutOfMemoryError:
            raise ValueError(
                f"{self.name} has not enough memory on its GPU for {what}: set features.batch below {self.cfg.batch}"
            ) from None
        except ValueError:
            raise
        except (RuntimeError, TypeError, IndexError, KeyError, AttributeError, NotImplementedError) as error:
            raise ValueError(
                f"{self.name} cannot take {what} ({guard.reason(error)}): correct features.stimuli, or features.call"
            ) from error
        if self.cfg.layer:
            if not self._seen:
                raise ValueError(
                    f"the network has a layer {self.cfg.layer}, but does not run it on {what}: choose another"
                )
            output = self._seen[-1]
        tensor = self._tensor(output, what)
        if tensor.ndim == 0 or not tensor.numel():
            raise ValueError(
                f"{self.name} gives the shape {tuple(tensor.shape)} for {what}, in which there is no feature"
            )
        if tensor.is_complex():
            raise ValueError(f"{self.name} gives complex numbers for {what}: choose another layer")
        return tensor.to("cpu", torch.float32)

    def _moved(self, value: Any) -> Any:
        return value.to(self.device) if isinstance(value, torch.Tensor) else value

    def _tensor(self, output: Any, what: str) -> torch.Tensor:
        key = self.cfg.output
        if isinstance(output, Mapping):
            keys = [str(name) for name, value in output.items() if isinstance(value, torch.Tensor)]
            if key and key not in keys:
                raise ValueError(f"{self.name} has no output {key!r}.{did_you_mean(key, keys)}")
            chosen = key or next((name for name in KEYS if name in keys), "")
            if not chosen:
                raise ValueError(
                    f"{self.name} has the outputs {first_of(keys)}: choose one, as features.output={keys[:1]}"
                )
            return torch.as_tensor(output[chosen])
        if key:
            raise ValueError(f"{self.name} has one output, and none by a key: leave out features.output={key}")
        while isinstance(output, tuple | list) and output:
            output = output[0]
        if not isinstance(output, torch.Tensor):
            raise ValueError(
                f"{self.name} gives a {type(output).__name__} for {what}, no tensor: choose a layer with features.layer"
            )
        return output


def pooled(encoder: Encoder, values: torch.Tensor, n: int, what: str, lengths: Sequence[int] = ()) -> np.ndarray:
    """[n, feature] of what a network gives for n stimuli: [n, feature], [n, token, feature] or [n, feature, y, x].

    Parameters
    ----------
    lengths
        How many tokens of each are not padding.
    """
    shape = tuple(values.shape)
    if shape[0] != n:
        raise ValueError(
            f"{encoder.name} gives the shape {shape} for {n} {what}, and not {n} rows: its first axis has to be the "
            "batch; choose another features.layer"
        )
    pool = encoder.cfg.pool
    if values.ndim > 3:  # [n, feature, y, x]
        values = values.flatten(2).transpose(1, 2)
    if values.ndim < 3 or pool == "flatten":
        return np.asarray(values.reshape(n, -1))
    if not lengths:
        lengths = [values.shape[1]] * n
    rows = [row[:length] for row, length in zip(values, lengths, strict=True)]
    if pool == "mean":
        return np.stack([np.asarray(row.mean(dim=0)) for row in rows])
    if pool == "max":
        return np.stack([np.asarray(row.amax(dim=0)) for row in rows])
    return np.stack([np.asarray(row[0 if pool == "first" else -1]) for row in rows])


# ---- Where networks come from


def _named(cfg: TorchScript | Module | Hub) -> str:
    if isinstance(cfg, TorchScript):
        return Path(str(cfg.file).partition("#")[0]).name
    return cfg.module if isinstance(cfg, Module) else cfg.model


def _network(cfg: TorchScript | Module | Hub) -> tuple[Any, str]:
    if isinstance(cfg, TorchScript):
        path = input_file(cfg.file)
        try:
            return torch.jit.load(str(path), map_location="cpu"), ""
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"{path} is no TorchScript file ({guard.reason(error)[:120]}): save it with torch.jit.save, or give "
                "the weights with features.network=module"
            ) from None
    return _hub(cfg) if isinstance(cfg, Hub) else _module(cfg)


def _module(cfg: Module) -> tuple[nn.Module, str]:
    make: Any = load_object(cfg.module)
    try:
        net = make if isinstance(make, nn.Module) else make(**cfg.settings)
    except TypeError as error:
        raise ValueError(
            f"{cfg.module} cannot be called with features.network.settings {cfg.settings}: {error}"
        ) from None
    if not isinstance(net, nn.Module):
        raise ValueError(f"{cfg.module} gives a {type(net).__name__}, and no torch.nn.Module: name the network's class")
    if cfg.weights:
        _load_weights(net, input_file(cfg.weights))
    else:
        log.info("%s brings its own weights: features.network.weights names no file", cfg.module)
    return net, ""


def _load_weights(net: nn.Module, path: Path) -> None:
    given = safetensors.read(path)[0] if path.suffix == ".safetensors" else _state(path)
    try:
        missing, unexpected = net.load_state_dict(given, strict=False)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit the network: {guard.reason(error)}") from None
    if missing:
        raise ValueError(
            f"{path} lacks {len(missing)} tensors of the network, as {first_of(missing, 3)}; it has "
            f"{first_of([*given], 3)}. "
            "Features of random weights say nothing: give the file of this network (`hpc inspect` shows what is in it)"
        )
    if unexpected:
        log.info("%s: %d tensors are not used: %s", path, len(unexpected), first_of(unexpected, 4))


def _state(path: Path) -> dict[str, torch.Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  it raises whatever it trips over
        raise ValueError(
            f"{path} is no file of weights that can be read without running its code ({guard.reason(error)[:120]}): "
            "save network.state_dict() with torch.save"
        ) from None
    for key in ("state_dict", "model_state_dict", "model", "parameters"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = (
        {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
        if isinstance(content, Mapping)
        else {}
    )
    if not tensors:
        raise ValueError(f"{path} holds no tensors by name: save network.state_dict() with torch.save")
    return tensors


# ---- transformers


def _transformers() -> Any:
    refuse_no_transformers()
    package = import_module("transformers")
    package.logging.set_verbosity_error()
    return package


def _from_cache(cfg: Hub, of: str, **how: Any) -> Any:
    """`of.from_pretrained` of the local cache. What is not there is one sentence, with the command that fetches it."""
    package = _transformers()
    if not hasattr(package, of):
        raise ValueError(
            f"transformers has no class {of}: correct features.network.of, as AutoModel or CLIPVisionModel"
        )
    more = how | ({"revision": cfg.revision} if cfg.revision else {})
    try:
        return getattr(package, of).from_pretrained(cfg.model, local_files_only=True, **more)
    except OSError as error:
        at = f" --revision {cfg.revision}" if cfg.revision else ""
        if Path(cfg.model).is_dir():
            raise ValueError(f"{cfg.model} is no folder of save_pretrained ({guard.reason(error)[:200]})") from None
        raise ValueError(
            f"the cache of the hub has no {cfg.model}, or not all of it, and nothing is downloaded in a job: fetch it "
            f"on the login node with `hf download {cfg.model}{at}` (HF_HOME says where the cache is), then give the "
            "same line again"
        ) from None
    except (ValueError, ImportError, RuntimeError) as error:
        raise ValueError(
            f"{of} of transformers cannot load {cfg.model} ({guard.reason(error)}): correct features.network.of"
        ) from None


def _hub(cfg: Hub) -> tuple[nn.Module, str]:
    """The network, and a note on weights that it draws at random because the files lack them."""
    net, loaded = _from_cache(cfg, cfg.of, output_loading_info=True)
    missing = sorted(loaded["missing_keys"])
    if len(missing) == len(net.state_dict()):
        raise ValueError(
            f"{cfg.model} has no weight of {cfg.of}, which would be random: features.network.of names a class of its "
            f"own"
        )
    if not missing:
        return net, ""
    return net, (
        f"{cfg.model} lacks {len(missing)} of {len(net.state_dict())} tensors of {cfg.of}, which are random: "
        f"{first_of(missing, 4)}. Features behind them say nothing"
    )


class Processors:
    """What transformers says of how a network wants its pictures, sounds and words."""

    def __init__(self, cfg: Hub) -> None:
        self.cfg = cfg

    def pictures(self) -> dict[str, Any]:
        """The settings of its image processor. The pictures are prepared by us: its own needs torchvision."""
        mixin = import_module("transformers.image_processing_base").ImageProcessingMixin
        _transformers()
        try:
            return dict(mixin.get_image_processor_dict(self.cfg.model, local_files_only=True)[0])
        except OSError:
            raise ValueError(
                f"{self.cfg.model} has no preprocessor_config.json in the cache, so that nobody knows its size, mean "
                f"and std: `hf download {self.cfg.model}`, or give your own module with features.network=module"
            ) from None

    def sounds(self) -> Callable[..., Any]:
        extractor: Callable[..., Any] = _from_cache(self.cfg, "AutoFeatureExtractor")
        return extractor

    def words(self) -> Any:
        return _from_cache(self.cfg, "AutoTokenizer")


# ---- Parts of a network


def _layer(net: Any, name: str) -> nn.Module:
    modules = dict(net.named_modules())
    if isinstance(net, torch.jit.ScriptModule):
        raise ValueError(
            f"a TorchScript file runs as one piece, so that its layer {name!r} cannot be looked at: leave out "
            "features.layer, or give the module itself with features.network=module"
        )
    if name not in modules:
        names = [each for each in modules if each]
        raise ValueError(f"the network has no layer {name!r}.{did_you_mean(name, names)}")
    found: nn.Module = modules[name]
    return found


def _called(net: Any, name: str) -> Callable[..., Any]:
    if not name:
        called: Callable[..., Any] = net
        return called
    part: Any = net
    for each in name.split("."):
        part = getattr(part, each, None)
    if not callable(part):
        parts = [each for each, _ in net.named_modules() if each]
        raise ValueError(f"the network has no part or method {name!r}.{did_you_mean(name, parts)}")
    called = part
    return called

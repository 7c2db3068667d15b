"""Config files and `key=value` settings become a typed dataclass, or a ConfigError that names the nearest valid name.

python -m hpc.launch train configs/demo.yaml optim.lr=1e-3 model.hidden=64
"""

from hpc.config.files import apply_words, check_words, choose, load, to_yaml
from hpc.config.schema import build, inputs, plain, required, with_inputs

__all__ = [
    "apply_words", "build", "check_words", "choose", "inputs", "load", "plain", "required", "to_yaml", "with_inputs",
]  # fmt: skip

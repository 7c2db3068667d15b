"""Config files and `key=value` settings become a typed dataclass, or a ConfigError that names the nearest valid name.

python -m hpc.launch train configs/demo.yaml optim.lr=1e-3 model.hidden=64
"""

from hpc.config.files import apply_words, check_words, choose, in_one_line, load, to_yaml, with_includes
from hpc.config.input_file import NO_FILE, InputFile, input_file, with_digests
from hpc.config.schema import (
    blanked,
    build,
    inputs,
    plain,
    required,
    secrets_of,
    texts,
    unnamed,
    with_inputs,
    without,
)
from hpc.config.secrets import Secret

__all__ = [
    "NO_FILE", "InputFile", "Secret", "apply_words", "blanked", "build", "check_words", "choose", "in_one_line",
    "input_file", "inputs", "load", "plain", "required", "secrets_of", "texts", "to_yaml", "unnamed", "with_digests",
    "with_includes", "with_inputs", "without",
]  # fmt: skip

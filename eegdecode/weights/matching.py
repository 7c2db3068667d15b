"""Match the parameters of a file to those of a model, by name and shape, whatever the prefix of the names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from eegdecode.weights.pickles import Shape

Names = Mapping[str, Shape]


@dataclass(frozen=True)
class Match:
    """The match, by the name in the model; `strip` is removed from the names of the file, `add` put before them."""

    strip: str
    add: str
    loaded: dict[str, str]
    """The name in the model, the name in the file."""
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    differ: dict[str, tuple[Shape, Shape]]
    """By the name in the model: its shape there, its shape in the file."""

    @property
    def renamed(self) -> str:
        changes = [f"{self.strip!r} removed"] if self.strip else []
        changes += [f"{self.add!r} put before"] if self.add else []
        return f" ({' and '.join(changes)})" if changes else ""


def match(in_file: Names, wanted: Names) -> Match:
    """The best match over all prefixes of both (module., target_encoder., the attribute of a trainer); the shortest of
    equals."""
    candidates = [(strip, add) for strip in _prefixes(in_file) for add in _prefixes(wanted)]
    strip, add = min(candidates, key=lambda pair: (-_n_same(in_file, wanted, *pair), len(pair[0]) + len(pair[1]), pair))
    renamed = _renamed(in_file, strip, add)
    shared = {name: file_name for name, file_name in renamed.items() if name in wanted}
    same = {name: file_name for name, file_name in shared.items() if in_file[file_name].sizes == wanted[name].sizes}
    matched = set(shared.values())
    return Match(
        strip,
        add,
        same,
        tuple(name for name in wanted if name not in shared),
        tuple(name for name in in_file if name not in matched),
        {name: (wanted[name], in_file[file_name]) for name, file_name in shared.items() if name not in same},
    )


def _n_same(in_file: Names, wanted: Names, strip: str, add: str) -> int:
    return sum(
        name in wanted and wanted[name].sizes == in_file[file_name].sizes
        for name, file_name in _renamed(in_file, strip, add).items()
    )


def _renamed(names: Iterable[str], strip: str, add: str) -> dict[str, str]:
    return {add + name.removeprefix(strip): name for name in names if name.startswith(strip)}


def _prefixes(names: Iterable[str]) -> list[str]:
    """Prefixes of up to three words, without numbers, as `model.target_encoder.`; the empty one first."""
    prefixes = {"": None}
    for name in names:
        words = name.split(".")[:-1][:3]
        for length in range(1, len(words) + 1):
            if words[length - 1].isdecimal():
                break
            prefixes[".".join(words[:length]) + "."] = None
    return list(prefixes)

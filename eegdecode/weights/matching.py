"""Match the parameters of a file to those of a model, by name and shape, whatever the prefix of the names."""

from collections.abc import Mapping
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

    def name_of(self, in_file: str) -> str:
        """The name in the model that a name in the file would have."""
        return self.add + in_file.removeprefix(self.strip) if in_file.startswith(self.strip) else in_file


def match(in_file: Names, wanted: Names) -> Match:
    """The best match over all prefixes of both (module., target_encoder., the attribute of a trainer); the shortest of
    equals."""
    matches = (_match(in_file, wanted, strip, add) for strip in _prefixes(in_file) for add in _prefixes(wanted))
    return min(matches, key=lambda m: (-len(m.loaded), len(m.strip) + len(m.add), m.strip, m.add))


def _match(in_file: Names, wanted: Names, strip: str, add: str) -> Match:
    shared = {
        name: file_name
        for file_name in in_file
        if file_name.startswith(strip) and (name := add + file_name.removeprefix(strip)) in wanted
    }
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


def _prefixes(names: Names) -> list[str]:
    """Prefixes of up to three words, without numbers, as `model.target_encoder.`; the empty one first."""
    prefixes = {"": None}
    for name in names:
        words = name.split(".")[:-1][:3]
        for length in range(1, len(words) + 1):
            if words[length - 1].isdecimal():
                break
            prefixes[".".join(words[:length]) + "."] = None
    return list(prefixes)

"""Match the parameters of a file to those of a model, by name and shape.

`taken` decides what training takes of a file, and so what `inspect` promises of it (`for_training`). `match` compares
two files, whatever the prefixes of both.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from eegdecode.weights.pickles import Shape

V = TypeVar("V")
Names = Mapping[str, Shape]
Translate = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""A model's own: the contents of others' files under its names."""
WRAPS = ("module.", "_orig_mod.", "model.", "network.", "state_dict.")
"""Prefixes that other tools add to the names of parameters."""


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


def renamed(
    in_file: Mapping[str, V], own: Collection[str], prefix: str = "", translate: Translate | None = None
) -> dict[str, V]:
    """Return the contents of a file under the names that they get when they are loaded, own or not.

    Parameters
    ----------
    prefix
        Take only the names that begin with it, and drop it: `start.prefix`.
    """
    given = {name.removeprefix(prefix): value for name, value in in_file.items() if name.startswith(prefix)}
    while given and any(all(name.startswith(wrap) for name in given) and not given.keys() & set(own) for wrap in WRAPS):
        given = {name.partition(".")[2]: value for name, value in given.items()}
    if translate is not None:  # the network knows the names that others use
        given = dict(translate(given))
    return {_bare(name, own): value for name, value in given.items()}


def _bare(name: str, own: Collection[str]) -> str:
    """Return the name without the prefixes of wrappers, if that makes it one of ours."""
    bare = name
    while bare not in own and bare.startswith(WRAPS):
        bare = bare.removeprefix(next(wrap for wrap in WRAPS if bare.startswith(wrap)))
    return bare if bare in own else name


@dataclass(frozen=True)
class Network:
    """What a network has of parameters, and how it takes those of others.

    Parameters
    ----------
    shapes
        Its parameters and buffers by name.
    translate
        Its own names for what others call otherwise.
    shortened
        Tensors of which it takes the first entries along an axis, as an embedding of more time than a window has.
    """

    shapes: Names
    translate: Translate | None = None
    shortened: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, network: Any) -> "Network":
        from eegdecode.weights.files import shape_of

        shapes = {name: shape_of(value) for name, value in network.state_dict().items()}
        return cls(shapes, getattr(network, "translate", None), getattr(network, "shortened", {}))


def for_training(in_file: Names, network: Network) -> Match:
    """Return what training would load with the `start.prefix` that loads most (`strip`); the shortest of equals."""
    matches = [taken(in_file, network, prefix) for prefix in _prefixes(in_file)]
    return min(matches, key=lambda m: (-len(m.loaded), len(m.strip), m.strip))


def taken(in_file: Names, network: Network, prefix: str = "") -> Match:
    """Return what training loads with this `start.prefix`."""
    wanted = network.shapes
    names = renamed({name: name for name in in_file}, wanted, prefix, network.translate)
    shared = {name: file_name for name, file_name in names.items() if name in wanted}
    return _matched(in_file, wanted, shared, prefix, "", network.shortened)


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
    return _matched(in_file, wanted, shared, strip, add)


def _matched(
    in_file: Names,
    wanted: Names,
    shared: Mapping[str, str],
    strip: str,
    add: str,
    shortened: Mapping[str, int] | None = None,
) -> Match:
    """`shared`: by the name in the model, the name in the file."""
    axes = shortened or {}
    same = {
        name: file_name
        for name, file_name in shared.items()
        if _fits(wanted[name].sizes, in_file[file_name].sizes, axes.get(name))
    }
    matched = set(shared.values())
    return Match(
        strip,
        add,
        same,
        tuple(name for name in wanted if name not in shared),
        tuple(name for name in in_file if name not in matched),
        {name: (wanted[name], in_file[file_name]) for name, file_name in shared.items() if name not in same},
    )


def _fits(ours: tuple[int, ...], theirs: tuple[int, ...], axis: int | None) -> bool:
    """Whether the sizes are equal; along `axis`, the file may have more."""
    if axis is None or len(ours) != len(theirs):
        return ours == theirs
    return all(a == b or (place == axis and a < b) for place, (a, b) in enumerate(zip(ours, theirs, strict=True)))


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

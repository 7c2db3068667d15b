"""What was decided about the channels of a recording, as a table: the product channels.tsv of survey and preprocess."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields

from eegdecode.signals import Kind
from hpc import media
from hpc.errors import first_of


@dataclass(frozen=True)
class Channel:
    """One channel. `unit` is that of the numbers in the file; samples are in volt and tesla in any case."""

    name: str
    kind: Kind
    kind_by: str = "the file"
    unit: str = ""
    unit_by: str = ""
    bad: str = ""


COLUMNS = tuple(each.name for each in fields(Channel))


def tsv(of: Mapping[str, Sequence[Channel]]) -> str:
    """The channels of each recording, a line each."""
    lines = [["recording", *COLUMNS]]
    for recording, channels in of.items():
        lines += [[recording, *map(str, asdict(channel).values())] for channel in channels]
    return media.tsv(lines)


def sentences(channels: Sequence[Channel]) -> tuple[str, ...]:
    """What was decided otherwise than the file says, a sentence for each kind or unit and its reason."""
    kinds: dict[tuple[str, str], list[str]] = {}
    units: dict[tuple[str, str], list[str]] = {}
    for each in channels:
        if each.kind_by != "the file":
            kinds.setdefault((each.kind, each.kind_by), []).append(each.name)
        if each.unit_by not in ("", "the file"):
            units.setdefault((each.unit, each.unit_by), []).append(each.name)
    return (
        *(f"{first_of(names, 8)}: {kind} by {why}" for (kind, why), names in kinds.items()),
        *(f"{_all(names, channels)}: in {unit} by {why}" for (unit, why), names in units.items()),
    )


def _all(names: Sequence[str], channels: Sequence[Channel]) -> str:
    return "all channels" if len(names) == len(channels) > 1 else first_of(names, 8)

"""What was seen of a study, as text: all of it, or some lines."""

from collections import Counter
from pathlib import Path
from typing import Any

from eegdecode.proposal.propose import Proposal, propose
from eegdecode.proposal.seen import Sight
from eegdecode.proposal.write import Guess
from hpc import media
from hpc.errors import first_of
from hpc.media import many

MOST_KINDS = 12


def short(sight: Sight, proposal: Proposal) -> str:
    """What a person should know before the config is used."""
    section, train = proposal.sections["preprocess"], proposal.sections["train"]
    lines = [_study(sight)]
    of_trials = section.get("events", Guess(None))
    lines += [guess.why for guess in (of_trials, *section["targets"], train["split"]) if guess.why]  # type: ignore
    lines += [f"CANNOT BE USED: {name}: {why}" for name, why in sight.failed.items()]
    lines += [f"NOTE: {note}" for note in sight.folder.notes]
    return media.lines("\n".join(lines))


def text(sight: Sight) -> str:
    lines = [_study(sight)]
    endings = ", ".join(
        f"{n} {ending or 'without ending'}" for ending, n in Counter(sight.folder.counts).most_common(8)
    )
    lines.append(f"files: {sight.folder.n_files} ({endings})")
    if sight.folder.names is not None:
        names = sight.folder.names
        lines.append(f"names: {names.files}")
        lines += [f"  {name}: {names.examples(name)}: {names.roles[name]}" for name in names.fields]
    else:
        lines.append(f"names: {sight.folder.files or 'those of BIDS'}")
    lines += ["", "recordings that were opened:"]
    for seen in sight.seen:
        stream, of_kind = seen.stream, Counter(seen.stream.sensor(name).kind for name in seen.stream.channels)
        channels = " + ".join(f"{n} {kind}" for kind, n in of_kind.items())
        mains = f", mains {seen.mains_hz:g} Hz" if seen.mains_hz else ""
        lines.append(f"  {seen.entry.name}: {channels}, {stream.sfreq:g} Hz, {stream.duration:.1f} s{mains}")
        lines += [f"    {note}" for note in seen.opened.notes]
    lines += [f"  {name}: CANNOT BE USED: {why}" for name, why in sight.failed.items()]
    lines += ["", f"channels that all have: {first_of(sight.channels, 32)}"]
    for source, columns in _marks(sight).items():
        lines += ["", f"{source}:"]
        for column, kinds in columns.items():
            lines.append(f"  {column}: {first_of([f'{n} × {kind}' for kind, n in kinds.items()], MOST_KINDS)}")
    if not sight.sources:
        lines += ["", "no events.tsv, annotations or triggers"]
    lines += [f"NOTE: {note}" for note in sight.folder.notes]
    return media.lines("\n".join(lines))


def outcome(sight: Sight, output: Path) -> str:
    """Whether it would write a config, or why it cannot."""
    try:
        propose(sight, str(sight.folder.path))
    except ValueError as error:
        return media.lines(f"No config can be proposed: {error}")
    return media.one_line(f"Without --explain it writes {output}.")


def plain(sight: Sight) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "recordings": len(sight.folder.entries),
        "subjects": sight.subjects,
        "opened": [seen.entry.name for seen in sight.seen],
        "failed": dict(sight.failed),
        "channels": sight.channels,
        "sfreq": sight.rates,
        "events": {
            source: {column: dict(kinds) for column, kinds in columns.items()}
            for source, columns in _marks(sight).items()
        },
    }


def _study(sight: Sight) -> str:
    rates = ", ".join(f"{rate:g}" for rate in sight.rates)
    kinds = " + ".join(f"{n} {kind}" for kind, n in sight.kinds.items())
    n, usable = len(sight.folder.entries), len(sight.entries)
    there = many(n, "recording") if usable == n else f"{usable} of {n} recordings can be used,"
    return f"{sight.folder.path}: {there} of {many(len(sight.subjects), 'subject')}, {kinds} channels at {rates} Hz"


def _marks(sight: Sight) -> dict[str, dict[str, dict[str, int]]]:
    """How often each value of each column stands in each source."""
    of_source: dict[str, dict[str, dict[str, int]]] = {}
    for source in sight.sources:
        every = [mark for marks in sight.marks(source).values() for mark in marks]
        columns = dict.fromkeys(column for mark in every for column in mark.columns)
        of_source[source] = {
            column: dict(Counter(mark.columns.get(column, "") for mark in every).most_common()) for column in columns
        }
    return of_source

"""A few mutated files of each format, the same each time. `make fuzz N=3000` tries more."""

from tests.fuzz.corpus import BY_NAME
from tests.fuzz.outcomes import GOOD, run, table

EACH = 12


def test_no_mutated_file_ends_more_than_itself() -> None:
    """It is read as before, or as what it says now, or refused in a sentence that names it; within bounds of time and
    memory."""
    outcomes = list(run(list(BY_NAME), range(EACH), seed=0))
    bad = [f"{each.word}: {each.command}\n{each.text}" for each in outcomes if each.word not in GOOD]
    assert not bad, "\n".join([*bad, table(outcomes)])
    words = [each.word for each in outcomes]
    assert words.count("sentence") > len(words) / 3 and words.count("as it says") > len(words) / 20

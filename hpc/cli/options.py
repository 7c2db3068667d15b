"""The options of the command line, in one table: `Arguments`, parsing, --help and completion all follow from it.

    cpus = option("N", whole, PLAN, "CPU cores per rank")

is the option `--cpus N` of the verbs that make a plan, and `args.cpus`, of which mypy knows that it is `int | None`.
Not argparse: importing it takes longer than everything else that `--help` and `status` do (docs/decisions/0009).
"""

from __future__ import annotations

from hpc.cli.table import CONFIG, VERBS, is_tool, takes_run, verbs
from hpc.config import plugins
from hpc.errors import ConfigError, did_you_mean, notice_of_new_word
from hpc.runs.sharing import WORDS

TYPE_CHECKING = False  # instead of importing typing, so that --help and status answer at once
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, TypeVar

    T = TypeVar("T")

SYNONYMS = {
    "cancel": "stop", "scancel": "stop", "kill": "stop RUN --now", "ls": "status", "list": "status", "ps": "status",
    "dashboard": "page", "watch": "status --watch",
    "squeue": "status", "log": "logs", "tail": "logs RUN -f", "fit": "train", "run": "train, or pipeline",
    "submit": "train, or pipeline", "start": "train, or pipeline", "restart": "resume", "requeue": "resume",
    "config": "settings", "reference": "settings", "models": "settings train.model", "help": "--help, or VERB --help",
    "version": "--version",
}  # fmt: skip
"""Words of other tools, which an error translates to ours."""

TEXT = """\
usage: python -m hpc.launch VERB [FILE.yaml or RECIPE ...] [key=value ...] [options]     (hpc VERB ... is the same)

Run a stage of an experiment on this machine or as a Slurm job.

verbs:
{stages}
{verbs}
{options}

examples:
  python -m hpc.launch pipeline configs/demo.yaml
  python -m hpc.launch train configs/demo.yaml optim.lr=1e-3 --nodes 2
  python -m hpc.launch train --nodes 2 --on slurm --dry-run

Without a file, configs/default.yaml is used, or the default recipe of the stage's package. Missing inputs of a stage
are made first. The same settings are the same run: give the line again, and a finished run says so, a stopped one
continues. RUN is the name of a run, the beginning of the name, its --name, or its job id.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused by the scheduler, 75 stopped and can continue, 76 hung,
93 failed for good (starting it again would change nothing).
"""


def whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise ValueError("a whole number of at least 0" if text.startswith("-") else "a whole number")
    return int(text)


def natural(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise ValueError("a whole number, 1 or more")
    return int(text)


def node_counts(text: str) -> int | str:
    """Return a number of nodes, or the fewest and the most, as `1-4`."""
    low, dash, high = text.partition("-")
    if not dash:
        return whole(text)
    if not all(part.isascii() and part.isdecimal() for part in (low, high)):
        raise ValueError("a whole number, or the fewest and the most, as 1-4")
    fewest, most = int(low), int(high)
    if fewest < 1:
        raise ValueError(f"at least 1 node, as 1-{max(most, 2)}")
    if fewest > most:
        raise ValueError(f"the fewest first, as {most}-{fewest}")
    return fewest if fewest == most else f"{fewest}-{most}"


def port(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text) <= 65535:
        raise ValueError("a number from 1 to 65535")
    return int(text)


def gigabytes(text: str) -> float:
    try:
        number = float(text.upper().removesuffix("B").removesuffix("G"))
    except ValueError:
        raise ValueError("a number of GB, as 16") from None
    if not abs(number) < 1e6:  # also refuses nan
        raise ValueError("a number below a million")
    return number


def one_line(text: str) -> str:
    if not text.isprintable():  # it becomes one line of a batch script
        raise ValueError("one line without control characters")
    return text


def run_name(text: str) -> str:
    import re

    if not re.fullmatch(r"[A-Za-z_][\w.-]{0,39}", text, re.ASCII):
        raise ValueError("a letter or _, then up to 39 letters, digits, _ . and -")
    return text


def readers(text: str) -> str:
    if text not in WORDS:
        raise ValueError("private, group or umask")
    return text


def hours_to_spend(text: str) -> str:
    from hpc.book import budget  # by those who give one

    return budget.parse(text).word


PLAN = "STAGE pipeline sweep search bench resume drill export replay"
"""The verbs that make a plan. STAGE stands for all stages, and in what follows RUN for all verbs about runs."""
JOBS = f"{PLAN} doctor"
"""Those, and one that submits jobs without a plan."""
START = "STAGE pipeline sweep bench resume"
ONE = "STAGE pipeline resume"


class Option:
    """A row of the table. `--max-parallel` is the attribute `max_parallel` of Arguments.

    Parameters
    ----------
    metavar
        Its value in capitals; empty if it takes none.
    convert
        Parses the value, or raises ValueError with what is needed; None if it takes none.
    verbs
        The verbs that take it; empty for all.
    what
        Its sentence in --help.
    default
        What Arguments has if it is not given.
    slurm
        Whether only Slurm understands it: `only`, or `as it is` if sbatch gets it unchanged under the same name, or
        `words` if it holds options of sbatch; then it may be given several times.
    for_verbs
        The sentence for verbs to which it means something else.
    """

    name: str
    field: str

    def __init__(
        self,
        metavar: str,
        convert: Callable[[str], object] | None,
        verbs: str,
        what: str,
        default: object,
        slurm: str = "",
        for_verbs: Mapping[str, str] | None = None,
    ) -> None:
        self.metavar = metavar
        self.convert = convert
        self.verbs = verbs.split()
        self.what = what
        self.default = default
        self.slurm = slurm
        self.for_verbs = for_verbs or {}

    def __set_name__(self, owner: type, field: str) -> None:
        self.field = field
        self.name = f"--{field.replace('_', '-')}"

    def fits(self, verb: str) -> bool:
        """Whether it applies to a verb, or to the stage of that name."""
        kind = verb if verb in VERBS else "FILES" if is_tool(verb) else "STAGE"
        kinds = {kind, *(["RUN"] if takes_run(verb) else [])}
        return not self.verbs or not kinds.isdisjoint(self.verbs)


# As of dataclasses.field, the type that these return is that of the parsed value, which mypy sees at `args.nodes`


def option(
    metavar: str, convert: Callable[[str], T], verbs: str, what: str, slurm: str = "", **for_verbs: str
) -> T | None:
    row: Any = Option(metavar, convert, verbs, what, None, slurm, for_verbs)
    return row


def option_or(default: T, metavar: str, convert: Callable[[str], T], verbs: str, what: str) -> T:
    row: Any = Option(metavar, convert, verbs, what, default)
    return row


def flag(verbs: str, what: str, **for_verbs: str) -> bool:
    row: Any = Option("", None, verbs, what, False, for_verbs=for_verbs)
    return row


class ResourceOptions:
    on = option(
        "SITE", one_line, JOBS,
        "local, debug, slurm, a profile or its FILE.yaml (default: detected); A,B: the sooner of two",
    )  # fmt: skip
    nodes = option(
        "N", node_counts, PLAN,
        "number of nodes; as 1-4: the number with which it is done first, chosen anew at each requeue",
    )  # fmt: skip
    gpus = option("N", whole, PLAN, "GPUs per node; each gets one rank")
    ranks = option("N", whole, PLAN, "ranks (processes) per node, if not one per GPU")
    cpus = option("N", whole, PLAN, "CPU cores per rank")
    mem = option("GB", gigabytes, PLAN, "memory per node")
    time = option("4h", one_line, PLAN, "walltime; when it ends, the run saves, and its job goes back into the queue")
    hang = option("15m", one_line, PLAN, "restart the ranks if none of them makes progress within this time")
    partition = option("NAME", one_line, JOBS, "instead of the profile's partition", "only")
    account = option(
        "NAME", one_line, JOBS, "the grant to charge; docs/sites.md lists where else it can be set", "only"
    )
    scratch = option("GB", whole, PLAN, "node-local disk, at sites where a job can ask for it")
    stage = option("PATH", one_line, PLAN, "where each node keeps its copy of training data: auto, off or a path")
    mpi = flag(PLAN, "start the ranks by MPI: mpiexec here, srun --mpi on a cluster")
    share = option(
        "WHO", readers, PLAN, "who may read the run folder: private, group, or umask (default: the profile's word)"
    )
    exclude = option("NODES", one_line, JOBS, "nodes not to use", "as it is")
    constraint = option("WORD", one_line, JOBS, "a feature the nodes must have", "as it is")
    comment = option("TEXT", one_line, PLAN, "a comment for Slurm's accounting", "as it is")
    qos = option("NAME", one_line, JOBS, "the quality of service that the site's queue is to give", "as it is")
    reservation = option("NAME", one_line, JOBS, "run in these reserved nodes, those of a course for one", "as it is")
    nodelist = option("NODES", one_line, JOBS, "nodes that it must have", "as it is")
    licenses = option("NAME:N", one_line, PLAN, "licenses of the site that it uses", "as it is")
    nice = option("N", whole, PLAN, "wait behind your other jobs: lower its priority by this", "as it is")
    sbatch = option(
        "WORDS", one_line, PLAN, "any other options of sbatch, in quotes, as '--begin=20:00 --exclusive'", "words"
    )
    container = option(
        "IMAGE", one_line, PLAN, "run the ranks in this image, as the profile says: env.sif; none: without one"
    )
    mail = option("ADDRESS", one_line, PLAN, "where Slurm sends mail when the job ends, fails or is requeued", "only")


class RunOptions:
    runs = option_or(
        "runs", "DIR", str, f"{JOBS} RUN FILES page", "the folder that holds the run folders (default: runs)"
    )
    after = option("RUN", str, ONE, "start after that run has succeeded")
    max_parallel = option("N", natural, "sweep search bench", "number of runs at the same time (search: 4)")
    preset = option(
        "NAME=VALUE", str, "STAGE pipeline sweep search drill", "use a preset of the config file, as size=tiny"
    )
    draws = option(
        "N", natural, "sweep", "draw N combinations at random; ranges may be optim.lr=log:1e-4..1e-2 or seed=0..99"
    )
    name = option(
        "WORD", run_name, f"{START} search export", "a name of your own for the run, to use wherever RUN is asked for"
    )
    again = flag(
        "STAGE pipeline sweep doctor",
        "make a new run, even if one has the same settings",
        doctor="probe anew what was probed before",
    )
    only = flag("STAGE sweep", "refuse if an input is missing, instead of making it first")
    budget = option(
        "50gpuh", hours_to_spend, START,
        "hours of GPUs, or of cores (2000cpuh): what costs more is refused; a run stops at its part",
    )  # fmt: skip
    dry_run = flag(
        f"{START} search clean replay",
        "print the plan and the batch script, and do nothing",
        clean="print what would be removed",
    )
    prepare = flag(START, "write the run folder and start nothing; slurm/run.sbatch can run it")
    follow = flag(
        f"{ONE} logs", "watch the Slurm run to its end", logs="keep printing what is written, until the run ends"
    )
    yes = flag("sweep bench stop replay", "do not ask before acting on many runs, or running a capsule's own code")
    json = flag(
        f"{START} search status book why stop recipes sites settings fetch replay FILES",
        "print the result as JSON on stdout, for scripts; everything else goes to stderr",
    )
    output = option(
        "FILE", str, "export settings fetch capsule doctor FILES", "the file to write (default: the terminal)",
        doctor="the profile to write (default: CLUSTER.yaml)",
    )  # fmt: skip


class VerbOptions:
    trials = option_or(20, "N", natural, "search", "number of trials (default: 20); more of them go on from there")
    sampler = option_or(
        "tpe", "NAME", str, "search", "how trials are proposed: tpe, random, or one of optuna's, as optuna:GPSampler"
    )
    by = option(
        "WORD", str, "search book", "the score of a trial, as max:METRIC",
        book="what a row is: run, sweep, person, grant, month or job",
    )  # fmt: skip
    csv = option("FILE", str, "book", "write the table with all of its numbers as CSV, too")
    latex = option("FILE", str, "book", "write it as LaTeX for a report, too")
    halving = option(
        "STEPS", str, "search", "train all to STEPS only, and the best third on to three times as many (ASHA); 100:4"
    )
    each = option("KEY=VALUES", str, "search", "a search for each of these values, as train.split.fold=0..4")
    seed = option_or(0, "N", whole, "search", "seed of what is drawn at random (default: 0)")
    watch = flag("status", "print it again every two seconds")
    serve = flag("page", "send the page to a browser on this machine, anew each time, until Ctrl-C")
    port = option("N", port, "page", "with --serve: the port (default: a free one)")
    rank = option_or(0, "N", whole, "logs", "the rank whose output to print (default: 0)")
    attempt = option("N", natural, "logs", "the attempt whose output to print (default: the newest)")
    slow = flag("why", "say what bounds its speed, and which node or rank the others wait for")
    save = flag("stop", "save first (the default)")
    now = flag("stop", "end at once, without saving")
    faults = option(
        "LIST", str, "drill", "faults to inject, separated by commas; drill --help lists them (default: all)"
    )
    repeat = option("N", natural, "drill", "draw N faults at random")
    all = flag("fetch", "also checkpoints, and files of more than 50 MB")
    checkpoints = flag("clean", "of finished runs, remove all checkpoints but the last")
    repair = flag("verify", "set damaged files aside, so that resume makes them again")
    accept = flag("verify", "trust the files of a run of an earlier version as they are")
    data = option(
        "PATH",
        str,
        "replay",
        "where the data are now that it has read: their folder, or one around it",
    )
    anyway = flag("replay", "compute also if the data are not those that were read, and name what differs")
    todays_code = flag("replay", "compute with the code that is here now, not with the run's own copy")
    with_data = flag("capsule", "pack what the run has read and made, too")
    replace = flag("site doctor", "allow to overwrite a profile of yours, or one that you have corrected")
    wait = option_or("10m", "TIME", one_line, "doctor", "how long a probe's job may wait for its start (default: 10m)")


class Arguments(ResourceOptions, RunOptions, VerbOptions):
    """A parsed command line. None or False: the option was not given."""

    help = flag("", "print this help")
    version = flag("", "print the version of hpc and of Python")

    def __init__(self) -> None:
        self.verb = ""
        self.words: list[str] = []
        """Config files, key=value settings, or names of runs."""
        for row in OPTIONS.values():
            setattr(self, row.field, row.default)


def _rows(table: type) -> list[Option]:
    return [row for row in vars(table).values() if isinstance(row, Option)]


GROUPS = {
    "resources": _rows(ResourceOptions), "running": _rows(RunOptions), "for one verb": _rows(VerbOptions),
}  # fmt: skip
OPTIONS = {row.name: row for row in [*(row for rows in GROUPS.values() for row in rows), *_rows(Arguments)]}
SHORT = {"-f": "--follow", "-o": "--output", "-h": "--help"}
SBATCH_LETTERS = {
    "-N": "--nodes", "-n": "--ranks", "-c": "--cpus", "-t": "--time", "-p": "--partition", "-A": "--account",
    "-G": "--gpus", "-x": "--exclude", "-C": "--constraint", "-J": "--name", "-d": "--after", "-q": "--qos",
    "-w": "--nodelist", "-L": "--licenses",
}  # fmt: skip
SBATCH_WORDS = {
    "--gres": "--gpus", "--gpus-per-node": "--gpus", "--ntasks-per-node": "--ranks", "--ntasks": "--ranks",
    "--cpus-per-task": "--cpus", "--mail-user": "--mail", "--dependency": "--after", "--job-name": "--name",
}  # fmt: skip
"""What sbatch calls these options; an error names ours."""
IN_QUOTES = (
    "--begin", "--deadline", "--distribution", "--exclusive", "--export", "--gpu-bind", "--gpu-freq", "--hint",
    "--hold", "--oversubscribe", "--priority", "--switches", "--threads-per-core", "--time-min", "--tmp", "--wckey",
)  # fmt: skip
"""Options of sbatch that have none of ours: an error says how to give them."""
OTHER_VERBS_WORD = {"--follow": "--watch", "--watch": "--follow"}
"""Options that do alike for other verbs."""
FORMER = {"--set": "--preset"}
"""Renamed options: the old name works for one version and prints a notice."""


def read(argv: Sequence[str]) -> Arguments:
    """Parse a command line: any order, `--nodes 2` or `--nodes=2`, and `--` ends the options."""
    args = Arguments()
    plain: list[str] = []
    used: list[Option] = []
    settings: list[str] = []
    coming = iter(argv)
    for word in coming:
        if word == "--":
            plain += coming
        elif word.startswith("-") and len(word) > 1:
            name, equals, text = word.partition("=")
            name = SHORT.get(name, name)
            if name in FORMER:
                notice_of_new_word(name, FORMER[name])
                name = FORMER[name]
            if name not in OPTIONS:
                settings.append(word)
                continue
            row = OPTIONS[name]
            used.append(row)
            if row.convert is None and equals:
                raise ConfigError(f"{name} takes no value, but got {text!r}")
            value = True if row.convert is None else _value(row, text if equals else next(coming, None))
            if value != "":  # an empty "$RUNS" in a script counts as not given
                before = getattr(args, row.field) if row.slurm == "words" else None
                setattr(args, row.field, f"{before} {value}" if before else value)
        else:
            plain.append(word)
    if plain:
        args.verb, args.words = plain[0], plain[1:]
    elif not args.help and not args.version:
        raise ConfigError("say what to do: python -m hpc.launch VERB; --help lists the verbs")
    for word in settings:
        name = word.partition("=")[0]
        if not is_tool(args.verb) or not name.startswith("--"):
            raise ConfigError(f"there is no option {name}{_instead(name)}")
        # A verb of another package has settings of its own: --explain is explain=true
        args.words.append(f"{name[2:].replace('-', '_')}={word.partition('=')[2] or 'true'}")
    for row in used:
        if not args.help and not row.fits(args.verb):
            other = OTHER_VERBS_WORD.get(row.name, "")
            hint = f": say {other}" if other and OPTIONS[other].fits(args.verb) else ""
            raise ConfigError(f"{row.name} is for {_list(row.verbs)}, not for {args.verb}{hint}")
    return args


def written(args: Arguments, *but: str) -> list[str]:
    """Return the options of a parsed line as words again, all `but` those of these names."""
    words: list[str] = []
    for row in OPTIONS.values():
        value = getattr(args, row.field)
        if row.field not in but and value != row.default:
            words += [row.name] if row.convert is None else [f"{row.name}={value}"]
    return words


def _instead(name: str) -> str:
    """Return what to say for a word that is not an option: what sbatch calls it, or the nearest."""
    if name in IN_QUOTES:
        return f": sbatch has it; say --sbatch '{name} …', or write it in the profile, under `directives`"
    ours = SBATCH_WORDS.get(name, "") if name.startswith("--") else SBATCH_LETTERS.get(name[:2], "")
    if ours:
        return f": say {ours} {OPTIONS[ours].metavar}"
    return f".{did_you_mean(name, OPTIONS)} Settings have no dashes: optim.lr=0.001"


def _list(words: list[str]) -> str:
    several = {
        "FILES": list(filter(is_tool, plugins.points("hpc.verbs"))),
        "RUN": [verb for verb in filter(takes_run, VERBS) if verb not in words],
    }
    words = [each for word in words for each in several.get(word, [word])]
    return " and ".join([*([", ".join(words[:-1])] if words[1:] else []), words[-1]])


def _value(row: Option, text: str | None) -> object:
    assert row.convert is not None
    if text is None or (row.slurm != "words" and text.partition("=")[0] in OPTIONS):  # the next option, not its value
        raise ConfigError(f"{row.name} needs a value: {row.name} {row.metavar}")
    try:
        return row.convert(text)
    except ValueError as error:
        raise ConfigError(f"{row.name} needs {error}, but got {text!r}") from None


def help_text() -> str:
    words = {name: f"{name} {verb.words.removesuffix(CONFIG)}" for name, verb in verbs().items()}
    rows = "\n".join(f"  {words[name]:<22} {verb.what}" for name, verb in verbs().items())
    short = {long: f"{letter}, " for letter, long in SHORT.items()}
    blocks = []
    for group, rows_of in GROUPS.items():
        lines = []
        for row in rows_of:
            how = f"{short.get(row.name, '')}{row.name} {row.metavar}"
            whose = f"{row.verbs[0]}: " if len(row.verbs) == 1 else ""
            others = [f"; {verb}: {what}" for verb, what in row.for_verbs.items()]
            lines.append(f"  {how:<20} {whose}{row.what}{''.join(others)}")
        blocks.append("\n".join([f"\n{group}:", *lines]))
    return TEXT.format(stages=_stages(), verbs=rows, options="\n".join(blocks))


def _stages() -> str:
    """Return the names of the installed stages, several to a line."""
    lines = ["  STAGE                  one of"]
    for name in plugins.points("hpc.stages"):
        if len(lines[-1]) + len(name) > 110:
            lines.append(" " * 24)
        lines[-1] += f" {name},"
    return "\n".join(lines).rstrip(",")

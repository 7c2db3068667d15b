"""The options of the command line, in one table: parsing, --help and completion all read it.

Not argparse: importing it takes longer than everything else that `--help` and `status` do (docs/decisions/0009).
"""

from hpc.cli.table import CONFIG, VERBS, is_tool, takes_run, verbs
from hpc.config import plugins
from hpc.errors import ConfigError, did_you_mean, notice_of_new_word
from hpc.runs.sharing import WORDS

TYPE_CHECKING = False  # instead of importing typing, so that --help and status answer at once
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SYNONYMS = {
    "cancel": "stop", "scancel": "stop", "kill": "stop RUN --now", "ls": "status", "list": "status", "ps": "status",
    "squeue": "status", "log": "logs", "tail": "logs RUN -f", "fit": "train", "run": "train, or pipeline",
    "submit": "train, or pipeline", "start": "train, or pipeline", "restart": "resume", "requeue": "resume",
    "config": "settings", "reference": "settings", "models": "settings train.model", "help": "--help, or VERB --help",
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


class Arguments:
    """A parsed command line. None or False: the option was not given."""

    def __init__(self) -> None:
        self.verb = ""
        self.words: list[str] = []
        """Config files, key=value settings, or names of runs."""
        self.help = False
        self.version = False

        self.on: str | None = None
        self.nodes: int | None = None
        self.gpus: int | None = None
        self.ranks: int | None = None
        self.cpus: int | None = None
        self.mem: float | None = None
        self.time: str | None = None
        self.hang: str | None = None
        self.partition: str | None = None
        self.account: str | None = None
        self.scratch: int | None = None
        self.stage: str | None = None
        self.mpi: bool | None = None
        self.share: str | None = None
        self.runs = "runs"
        self.exclude: str | None = None
        self.constraint: str | None = None
        self.comment: str | None = None
        self.mail: str | None = None
        self.after: str | None = None
        self.max_parallel: int | None = None

        self.preset: str | None = None
        self.draws: int | None = None
        self.name: str | None = None
        self.again = False
        self.only = False
        self.dry_run = False
        self.prepare = False
        self.follow = False
        self.yes = False
        self.output: str | None = None
        self.json = False

        self.faults: str | None = None
        self.repeat: int | None = None
        self.watch = False
        self.rank = 0
        self.attempt: int | None = None
        self.save = False
        self.now = False
        self.checkpoints = False
        self.replace = False
        self.repair = False
        self.accept = False


def whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise ValueError("a whole number")
    return int(text)


def natural(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise ValueError("a whole number, 1 or more")
    return int(text)


def gigabytes(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError("a number") from None
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


PLAN = "STAGE pipeline sweep resume drill export"
"""The verbs that make a plan. STAGE stands for all stages, and in what follows RUN for all verbs about runs."""
START = "STAGE pipeline sweep resume"
ONE = "STAGE pipeline resume"

Option = tuple[str, str, "Callable[[str], object] | None", str, str]
"""Its name, its value in capitals, the function that parses the value (None: it takes none), its verbs, its help."""

GROUPS: dict[str, list[Option]] = {
    "resources": [
        ("--on", "SITE", one_line, PLAN, "local, debug, slurm, or a profile of configs/site (default: detected)"),
        ("--nodes", "N", whole, PLAN, "number of nodes"),
        ("--gpus", "N", whole, PLAN, "GPUs per node; each gets one rank"),
        ("--ranks", "N", whole, PLAN, "ranks (processes) per node, if not one per GPU"),
        ("--cpus", "N", whole, PLAN, "CPU cores per rank"),
        ("--mem", "GB", gigabytes, PLAN, "memory per node"),
        ("--time", "4h", one_line, PLAN, "walltime; when it ends, the run saves, and its job goes back into the queue"),
        ("--hang", "15m", one_line, PLAN, "restart the ranks if none of them makes progress within this time"),
        ("--partition", "NAME", one_line, PLAN, "instead of the profile's partition"),
        ("--account", "NAME", one_line, PLAN, "the grant to charge; docs/sites.md lists where else it can be set"),
        ("--scratch", "GB", whole, PLAN, "node-local disk, at sites where a job can ask for it"),
        ("--stage", "PATH", one_line, PLAN, "where each node keeps its copy of training data: auto, off or a path"),
        ("--mpi", "", None, PLAN, "start the ranks by MPI: mpiexec here, srun --mpi on a cluster"),
        ("--runs", "DIR", str, f"{PLAN} RUN", "the folder that holds the run folders (default: runs)"),
        (
            "--share",
            "WHO",
            readers,
            PLAN,
            "who may read the run folder: private, group, or umask (default: the profile's word)",
        ),
        ("--exclude", "NODES", one_line, PLAN, "nodes not to use"),
        ("--constraint", "WORD", one_line, PLAN, "a feature the nodes must have"),
        ("--comment", "TEXT", one_line, PLAN, "a comment for Slurm's accounting"),
        ("--mail", "ADDRESS", one_line, PLAN, "where Slurm sends mail when the job ends, fails or is requeued"),
        ("--after", "RUN", str, ONE, "start after that run has succeeded"),
        ("--max-parallel", "N", natural, "sweep", "number of runs at the same time"),
    ],
    "running": [
        (
            "--preset",
            "NAME=VALUE",
            str,
            "STAGE pipeline sweep drill",
            "use a preset of the config file, as size=tiny",
        ),
        (
            "--draws",
            "N",
            natural,
            "sweep",
            "draw N combinations at random; ranges may be optim.lr=log:1e-4..1e-2 or seed=0..99",
        ),
        (
            "--name",
            "WORD",
            run_name,
            f"{START} export",
            "a name of your own for the run, to use wherever RUN is asked for",
        ),
        ("--again", "", None, "STAGE pipeline sweep", "make a new run even if there is one with the same settings"),
        ("--only", "", None, "STAGE sweep", "refuse if an input is missing, instead of making it first"),
        (
            "--dry-run",
            "",
            None,
            f"{START} clean",
            "print the plan and the batch script, or what would be removed, and do nothing",
        ),
        ("--prepare", "", None, START, "write the run folder and start nothing; slurm/run.sbatch can run it"),
        (
            "--follow",
            "",
            None,
            f"{ONE} logs",
            "watch the Slurm run to its end; logs: keep printing",
        ),
        ("--yes", "", None, "sweep stop", "do not ask before acting on many runs"),
        (
            "--json",
            "",
            None,
            f"{START} status stop recipes sites settings FILES",
            "print the result as JSON on stdout, for scripts; everything else goes to stderr",
        ),
        ("--output", "FILE", str, "export settings", "the file to write (default: the terminal)"),
    ],
    "for one verb": [
        ("--watch", "", None, "status", "print it again every two seconds"),
        ("--rank", "N", whole, "logs", "the rank whose output to print (default: 0)"),
        ("--attempt", "N", natural, "logs", "the attempt whose output to print (default: the newest)"),
        ("--save", "", None, "stop", "save first (the default)"),
        ("--now", "", None, "stop", "end at once, without saving"),
        (
            "--faults",
            "LIST",
            str,
            "drill",
            "faults to inject, separated by commas; drill --help lists them (default: all)",
        ),
        ("--repeat", "N", natural, "drill", "draw N faults at random"),
        ("--checkpoints", "", None, "clean", "of finished runs, remove all checkpoints but the last"),
        ("--replace", "", None, "site", "allow refresh to overwrite a profile of yours"),
        ("--repair", "", None, "verify", "set damaged files aside, so that resume makes them again"),
        ("--accept", "", None, "verify", "trust the files of a run of an older release as they are"),
    ],
}
SHORT = {"-f": "--follow", "-o": "--output", "-h": "--help"}
SBATCH_LETTERS = {
    "-N": "--nodes",
    "-n": "--ranks",
    "-c": "--cpus",
    "-t": "--time",
    "-p": "--partition",
    "-A": "--account",
}
SBATCH_WORDS = {
    "--gres": "--gpus", "--gpus-per-node": "--gpus", "--ntasks-per-node": "--ranks", "--cpus-per-task": "--cpus",
    "--mail-user": "--mail", "--dependency": "--after",
}  # fmt: skip
"""What sbatch calls these options; an error names ours."""
FORMER = {"--set": "--preset"}
"""Renamed options: the old name works for one version and prints a notice."""
OPTIONS: dict[str, Option] = {option[0]: option for group in GROUPS.values() for option in group}
OPTIONS["--help"] = ("--help", "", None, "", "print this help")
OPTIONS["--version"] = ("--version", "", None, "", "print the version of hpc and of Python")


def fits(option: Option, verb: str) -> bool:
    """Whether an option applies to a verb, or to the stage of that name."""
    kind = verb if verb in VERBS else "FILES" if is_tool(verb) else "STAGE"
    kinds = {kind, *(["RUN"] if takes_run(verb) else [])}
    return option[0] in ("--help", "--version") or not kinds.isdisjoint(option[3].split())


def read(argv: "Sequence[str]") -> Arguments:
    """Parse a command line: any order, `--nodes 2` or `--nodes=2`, and `--` ends the options."""
    args = Arguments()
    plain: list[str] = []
    used: list[Option] = []
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
                ours = SBATCH_WORDS.get(name, "") if name.startswith("--") else SBATCH_LETTERS.get(name[:2], "")
                hint = f": say {ours} {OPTIONS[ours][1]}" if ours else f".{did_you_mean(name, OPTIONS)}"
                raise ConfigError(f"there is no option {name}{hint}")
            option = OPTIONS[name]
            used.append(option)
            if option[2] is None and equals:
                raise ConfigError(f"{name} takes no value, but got {text!r}")
            value = True if option[2] is None else _value(option, text if equals else next(coming, None))
            if value != "":  # an empty "$RUNS" in a script counts as not given
                setattr(args, name[2:].replace("-", "_"), value)
        else:
            plain.append(word)
    if plain:
        args.verb, args.words = plain[0], plain[1:]
    elif not args.help and not args.version:
        raise ConfigError("say what to do: python -m hpc.launch VERB; --help lists the verbs")
    for option in used:
        if not args.help and not fits(option, args.verb):
            raise ConfigError(f"{option[0]} is for {_list(option[3].split())}, not for {args.verb}")
    return args


def _list(words: list[str]) -> str:
    several = {
        "FILES": list(filter(is_tool, plugins.points("hpc.verbs"))),
        "RUN": [verb for verb in filter(takes_run, VERBS) if verb not in words],
    }
    words = [each for word in words for each in several.get(word, [word])]
    return " and ".join([*([", ".join(words[:-1])] if words[1:] else []), words[-1]])


def _value(option: Option, text: str | None) -> object:
    name, metavar, convert, _, _ = option
    assert convert is not None
    if text is None or text.partition("=")[0] in OPTIONS:  # the next option, not its value
        raise ConfigError(f"{name} needs a value: {name} {metavar}")
    try:
        return convert(text)
    except ValueError as error:
        raise ConfigError(f"{name} needs {error}, but got {text!r}") from None


def help_text() -> str:
    words = {name: f"{name} {verb.words.removesuffix(CONFIG)}" for name, verb in verbs().items()}
    rows = "\n".join(f"  {words[name]:<22} {verb.what}" for name, verb in verbs().items())
    short = {long: f"{letter}, " for letter, long in SHORT.items()}
    blocks = []
    for group, options in GROUPS.items():
        lines = []
        for name, metavar, _, taken_by, what in options:
            how, whose = f"{short.get(name, '')}{name} {metavar}", "" if " " in taken_by else f"{taken_by}: "
            lines.append(f"  {how:<20} {whose}{what}")
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

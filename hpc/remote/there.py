"""The folder of a project on a cluster, and `hpc` run in it: the verbs there are this same program, sent from here.

ROOT/eeg/                        the folder from which the line was given here is called eeg
ROOT/eeg/my-study.yaml           config files, at the same place as here
ROOT/eeg/configs/site/SITE.yaml  the profile
ROOT/eeg/runs/.code/3f2a91c0…/   the code, a snapshot like any other: runs link to it, and `hpc` is run from it
ROOT/eeg/.hpc/3f2a91c0…/         what is known of that code: its checkout and commit, and what its packages add

Code gets its name when it is complete; what is there is not sent again. A command that acts writes what it says to
files over there and shows them at its end, so that a connection that breaks does not end it in the middle.
"""

import os
import re
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from hpc.config import plugins
from hpc.errors import ConfigError
from hpc.plan import snapshot
from hpc.plan.snapshot import SENT, Snapshot
from hpc.remote.ssh import Answer, Ssh, no_room
from hpc.runs.unpack import ARCHIVE
from hpc.site.profile import Login

LOGIN_NODE = "HPC_LOGIN_NODE"
"""Set where a line has come by ssh: it goes no further, whatever the profile says."""
NO_CODE = 97
"""The exit code of our script if the code, or the whole folder, is no longer there."""
LOOK_S, ACT_S = 60.0, 900.0
"""How long a look, and a command that acts, may take over there."""
LOOKS, ACTS = 2, 5
"""How often they are tried. Somebody waits for a look, and without it sees what was seen last."""
MOST_MB = 50
"""Larger files are left over there, unless all are asked for."""

_HELLO = """\
mkdir -p "$folder/.hpc/$2" "$folder/$1/.code" || exit
echo "folder=$folder"
echo "python=$python"
for name in sbatch rsync; do echo "$name=$(command -v "$name")"; done
echo "n_files=$(find "$folder/$1/.code/$2" -type f 2>/dev/null | wc -l | tr -d ' ')"
cd "$folder/$1/.code" || exit
like=$(ls -t | head -n 1)
# What is equal need not go over; by cp, as rsync's --copy-dest is broken in some versions (3.2.7 of Debian 12)
[ -d "$2" ] || [ -d ".$2.part" ] || [ -z "$like" ] || cp -R "$like" ".$2.part" || exit
if [ -x "$python" ]; then
  echo "python_is=$("$python" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>&1 | tail -n 1)"
  echo "torch=$("$python" -c 'from importlib.metadata import version as v; print(v("torch"))' 2>/dev/null)"
fi
true
"""
_ENTER = f"""\
cd "$folder" 2>/dev/null || exit {NO_CODE}
code=$1/.code/$2
[ -d "$code" ] || mv "$1/.code/.$2.part" "$code" 2>/dev/null || [ -d "$code" ] || exit {NO_CODE}
[ -f "$code/manifest.json" ] && [ -f "$code/{ARCHIVE}" ] || exit {NO_CODE}
shift 2
export PYTHONPATH="$folder/.hpc/${{code##*/}}${{PYTHONPATH:+:$PYTHONPATH}}"
export {LOGIN_NODE}=1 {SENT}="$folder/.hpc/${{code##*/}}/origin.json" PYTHONIOENCODING=utf-8
"""
_ACT = """\
d=$(mktemp -d) || exit
"$python" -PB "$code/code.zip" -m hpc.launch "$@" </dev/null >"$d/out" 2>"$d/err"
code=$?
cat "$d/err" >&2
cat "$d/out"
rm -r "$d"
exit $code
"""
_WATCH = """\
exec 3<&0
"$python" -PBu "$code/code.zip" -m hpc.launch "$@" </dev/null 3<&- &
work=$!
{ cat <&3; kill $work; } >/dev/null 2>&1 &
guard=$!
wait $work
code=$?
kill $guard 2>/dev/null
exit $code
"""


@dataclass(frozen=True)
class Code:
    """Code as it is sent: the name of its snapshot."""

    name: str


@dataclass(frozen=True)
class Place:
    """A project over there: the way to it, the name of its folder below login.root, and its folder of runs."""

    site: str
    login: Login
    project: str
    runs: str


class There:
    """Sends a project, and runs `hpc` in it."""

    def __init__(self, place: Place, tell: Callable[[str], object]) -> None:
        self.place = place
        self.ssh = Ssh(place.login.host, tell, place.login.setup)
        self.tell = tell
        self.folder = ""
        """The folder of the project, once something was sent."""

    # ------------------------------------------------------------------------------------------------------- sending

    def send(self, files: Sequence[Path], profile: Path, runs: Path) -> Code:
        """Send the code of all installed packages that runs need, config files below this folder, and the profile;
        only what has changed goes over. Returns the code."""
        relative = [_below_here(path) for path in files]
        codes = snapshot.look(_packages())
        copy = snapshot.take(codes, runs)
        code = Code(copy.folder.name)
        seen = self._hello(code)
        folder = self.folder = seen["folder"]
        n_files = sum(len(names) for _, _, names in os.walk(copy.folder))
        if int(seen["n_files"]) != n_files:
            self._send_code(copy, folder, seen)
        with tempfile.TemporaryDirectory(prefix="hpc-") as place:
            _write_about(Path(place, ".hpc", code.name), snapshot.origin(codes, copy))
            _write(Path(place, "configs/site", f"{self.place.site}.yaml"), profile.read_text())
            self._rsync(f"{place}/", f"REMOTE:{folder}/")
        if relative:
            self._rsync("--files-from=-", "./", f"REMOTE:{folder}/", text="\n".join(relative))
        return code

    def _hello(self, code: Code) -> Mapping[str, str]:
        """Look at what is there, and make the folders. Refuses a place that cannot work, with what it lacks."""
        login = self.place.login
        answer = self._script(_HELLO, self.place.runs, code.name, n_tries=LOOKS, patience_s=LOOK_S)
        seen = dict(line.split("=", 1) for line in answer.out.splitlines() if "=" in line)
        if answer.code or "folder" not in seen:
            raise ConfigError(f"{login.host}: {_why(answer, 'the folder for the project cannot be made')}")
        for name, what in (
            ("sbatch", "Slurm (no sbatch)"),
            ("rsync", "rsync"),
        ):
            if not seen[name]:
                raise ConfigError(
                    f"{login.host} has no {what} on the PATH that a command of ssh gets: if a login shell has it, say "
                    "so in `login.setup` of the profile, as [. /etc/profile]; else it is not the login node"
                )
        if "python_is" not in seen:
            raise ConfigError(
                f"there is no {seen['python']} on {login.host}: make the environment there once (env/README.md), or "
                "name its Python, `python: PATH`, in ~/.config/hpc/logins.yaml"
            )
        self._compare(seen)
        return seen

    def _compare(self, seen: Mapping[str, str]) -> None:
        """Refuse a Python that is too old; note another torch, whose results may differ in the last digits."""
        if tuple(int(part) for part in re.findall(r"\d+", seen["python_is"])[:2]) < (3, 11):
            raise ConfigError(
                f"hpc needs Python 3.11 or newer: {seen['python']} on {self.place.login.host} is {seen['python_is']}"
            )
        try:
            here = version("torch")
        except PackageNotFoundError:
            return
        if not seen["torch"]:
            self.tell(f"note: {seen['python']} on {self.place.site} has no torch: stages that need it will fail")
        elif seen["torch"].partition("+")[0] != here.partition("+")[0]:
            self.tell(f"note: torch is {seen['torch']} on {self.place.site}, {here} here: last digits may differ")

    def _send_code(self, copy: Snapshot, folder: str, seen: Mapping[str, str]) -> None:
        """Send a snapshot. One that has lost files, as on a disk that is cleaned, gets them back."""
        lossy = int(seen["n_files"]) > 0
        name = copy.folder.name if lossy else f".{copy.folder.name}.part"
        target = f"REMOTE:{folder}/{self.place.runs}/.code/{name}/"
        self._rsync("--delete", f"{copy.folder}/", target)

    def _rsync(self, *words: str, text: str = "") -> None:
        # By content, as copies of equal files differ in time; whoever may read a run, its folder says
        answer = self.ssh.rsync("-rlpc", "--chmod=go=", *words, text=text)
        if answer.code:
            raise ConfigError(f"{self.place.login.host}: {_why(answer, 'rsync could not write the files')}")

    # ------------------------------------------------------------------------------------------------------- running

    def act(self, code: Code, words: Sequence[str], again: bool) -> Answer:
        """Run `hpc` with these words to its end, whatever becomes of the connection. With `again`, it is given again if
        the connection breaks, and then finds what it has done."""
        return self._hpc(_ACT, code, words, ACTS if again else 1, ACT_S)

    def look(self, code: Code, words: Sequence[str]) -> Answer:
        """The same for words that only read."""
        return self._hpc(_ACT, code, words, LOOKS, LOOK_S)

    def watch(self, code: Code, words: Sequence[str], show: Callable[[bytes], object]) -> int:
        """Run `hpc` and show what it prints, until it ends or the connection does. Raises Unreachable."""
        return self.ssh.stream(self._command(_ENTER + _WATCH, *self._entered(code), *words), show)

    def fetch(self, run: str, target: Path, everything: bool) -> list[str]:
        """Bring the folder of a run here, without its code; larger files, and checkpoints, only if everything is asked
        for. Returns the names of the files that stayed there."""
        target.mkdir(parents=True, exist_ok=True)
        folder = self._folder()
        keep_out = ["/code", "/heartbeat", ".*.tmp", *([] if everything else ["/checkpoints"])]
        words = [f"--exclude={pattern}" for pattern in keep_out]
        words += [] if everything else [f"--max-size={MOST_MB}m"]
        source = f"REMOTE:{folder}/{self.place.runs}/{run}/"
        # No links, which may lead anywhere
        answer = self.ssh.rsync("-rtp", "--chmod=go=", "--partial-dir=.partial", *words, source, f"{target}/")
        if answer.code:
            raise ConfigError(f"{run}: {_why(answer, 'its files could not be brought here')}")
        if everything:
            return []
        large = [f"--exclude={pattern}" for pattern in keep_out] + [f"--min-size={MOST_MB}m"]
        listed = self.ssh.rsync("-rtn", "--out-format=%l %n", *large, source, f"{target}/")
        return re.findall(r"^\d+ (.*[^/\n])$", listed.out, re.MULTILINE)

    def _folder(self) -> str:
        answer = self._script('echo "folder=$folder"', n_tries=LOOKS, patience_s=LOOK_S)
        return next(line for line in answer.out.splitlines() if line.startswith("folder=")).removeprefix("folder=")

    def _hpc(self, script: str, code: Code, words: Sequence[str], n_tries: int, patience_s: float) -> Answer:
        return self._script(_ENTER + script, *self._entered(code), *words, n_tries=n_tries, patience_s=patience_s)

    def _entered(self, code: Code) -> list[str]:
        return [self.place.runs, code.name]

    def _script(self, script: str, *words: str, n_tries: int, patience_s: float) -> Answer:
        return self.ssh.run(*self._command(script, *words), n_tries=n_tries, patience_s=patience_s)

    def _command(self, script: str, *words: str) -> list[str]:
        login = self.place.login
        start = [
            *login.setup,
            "set -u",
            "umask 077",
            f'root="{login.root}"',
            'case $root in /*) ;; *) root="$HOME/$root" ;; esac',
            f"folder=$root/{shlex.quote(self.place.project)}",
            f'python="{login.python}"',
            'case $python in /*) ;; *) python="$root/$python" ;; esac',
        ]
        return ["sh", "-c", "\n".join([*start, script]), "hpc", *words]


def project_of(folder: Path) -> str:
    """Return the name over there of the folder from which a line is given."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", folder.name).lstrip(".-") or "project"


def _packages() -> list[str]:
    stages = [where.partition(".")[0].partition(":")[0] for where in plugins.points("hpc.stages").values()]
    return list(dict.fromkeys(["hpc", *stages, *plugins.packages()]))


def _write_about(place: Path, origin: str) -> None:
    """Write what goes beside the code: where it comes from, and the entry points of its packages, which Python finds in
    what pip has installed, and so not in a copy of a checkout."""
    about = place / "sent_by_hpc-1.dist-info"
    groups = plugins.groups()
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {where}\n" for name, where in groups[group].items()) for group in groups
    ]
    _write(place / "origin.json", origin)
    _write(about / "METADATA", "Metadata-Version: 2.1\nName: sent-by-hpc\nVersion: 1\n")
    _write(about / "entry_points.txt", "\n".join(lines))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _below_here(path: Path) -> str:
    """Return the path of a config file relative to this folder: it is at the same place over there."""
    relative = os.path.relpath(path.absolute())
    if relative.startswith(".."):
        raise ConfigError(
            f"the config file {path} is outside of this folder, so it has no place on the cluster: copy it here, or go "
            "to the folder that holds it and your configs"
        )
    return relative


def _why(answer: Answer, what: str) -> str:
    lines = [line for line in answer.error.splitlines() if line.strip() and not line.startswith("rsync error")]
    said = lines[0].strip() if lines else f"exit code {answer.code}"
    if no_room(answer.error):
        return (
            f"no room, or your quota is used up ({said}). Free some there (`hpc clean`, old checkpoints), or name "
            "another `root:` in ~/.config/hpc/logins.yaml"
        )
    return f"{what}: {said}"


def is_loose_code(answer: Answer) -> bool:
    """Whether the code over there is gone, as on a disk that is cleaned, and must be sent again."""
    return answer.code == NO_CODE

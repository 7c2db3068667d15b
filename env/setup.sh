#!/usr/bin/env bash
# Makes the virtual environment and installs this repository in it, editable, with pinned versions.
#   env/setup.sh cpu|cuda [--venv .venv] [--extras test,dev,artefacts,audio,tables,film,hub,moabb,metadata,mpi,onnx,search,wandb] [--no-cuda]
# Run it as often as you like: nothing is done while setup.cfg, setup.py, the pins and this script are unchanged and the extras
# are there. What was asked for before stays: extras are added, never taken away.
# PYTHON=/path/to/python3.12 chooses the interpreter. --no-cuda ends with exit code 3 where torch comes with CUDA only.
# Stopped by Ctrl-C or a signal it ends what it has started, and the same command goes on. A second one waits for the first.
set -euo pipefail

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit "${2:-1}"; }

usage='usage: env/setup.sh cpu|cuda [--venv .venv] [--extras test,dev,artefacts,audio,tables,film,hub,moabb,metadata,mpi,onnx,search,wandb] [--no-cuda]'
help() {
  printf '%s\n' "$usage" \
    "Makes the virtual environment and installs this repository in it, editable, with the versions of env/constraints-*.txt." \
    "Run it as often as you like: nothing is done where nothing is missing, and what was asked for before stays." \
    "  cpu, cuda   whose list of versions it is" \
    "  --venv      the folder of the environment, .venv of the repository by default" \
    "  --extras    what to install beside what a user runs: test (the tests), dev (linters and build), artefacts" \
    "              (ICLabel, autoreject), audio (PESQ), tables (parquet), film (sound and frames of films)," \
    "              hub (networks of the Hugging Face hub), moabb (public data sets), metadata (labels of mne.Epochs)," \
    "              mpi (mpi4py with an MPI for one machine), onnx (models as .onnx), search (optuna), wandb (its alerts)" \
    "  --no-cuda   goes no further, with exit code 3, where torch comes with CUDA only (gigabytes)" \
    "PYTHON=/path/to/python3.12 chooses the interpreter, 3.11 or newer."
}
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
kind=${1:-}
for word in "$@"; do
  case $word in -h | --help) help; exit 0 ;; esac
done
case $kind in
  cpu | cuda) shift ;;
  *) printf '%s\n' "$usage" "the first word is cpu or cuda, but got '$kind' instead" >&2; exit 2 ;;
esac
venv=$repo/.venv extras='' no_cuda=
while [ $# -gt 0 ]; do
  if [ "$1" = --no-cuda ]; then no_cuda=--no-cuda; shift; continue; fi
  case $1 in
    --venv | --extras) ;;
    -*) printf '%s\n' "$usage" "unknown option '$1'" >&2; exit 2 ;;
    *) printf '%s\n' "$usage" "unknown word '$1'" >&2; exit 2 ;;
  esac
  if [ $# -lt 2 ]; then printf '%s\n' "$usage" "$1 needs a value" >&2; exit 2; fi
  case $1 in
    --venv) case $2 in /*) venv=$2 ;; *) venv=$PWD/$2 ;; esac ;;
    --extras) extras=$2 ;;
  esac
  shift 2
done
for extra in ${extras//,/ }; do
  case $extra in
    test | dev | artefacts | audio | tables | film | hub | moabb | metadata | mpi | onnx | search | wandb) ;;
    *) printf '%s\n' "$usage" "allowed extras are test, dev, artefacts, audio, tables, film, hub, moabb, metadata, mpi, onnx, search, wandb, but got '$extra' instead" >&2; exit 2 ;;
  esac
done
constraints=$repo/env/constraints-$kind.txt

# ---- the interpreter that is asked for is new enough, and the one that is there
version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2> /dev/null; }
if [ -n "${PYTHON:-}" ]; then
  asked=$(version_of "$PYTHON") || fail "PYTHON=$PYTHON does not run"
  case $asked in
    [012].* | 3.? | 3.10) fail "PYTHON=$PYTHON is Python $asked, and this needs 3.11 or newer: set PYTHON to another one, or leave it out" ;;
  esac
  if [ -x "$venv/bin/python" ]; then
    has=$(version_of "$venv/bin/python") || fail "the Python of $venv does not run any more: remove that folder and start again"
    [ "$asked" = "$has" ] || fail "$venv has Python $has, and PYTHON=$PYTHON is $asked: say another folder (--venv .venv-$asked, with make VENV=.venv-$asked), or remove that one"
  fi
fi

# ---- nothing to do? The stamp's first line is all that decides which versions get installed, its second the extras.
stamp=$venv/.setup-stamp
versions="$kind $(cat "$repo"/setup.* "$repo/pyproject.toml" "$constraints" "${BASH_SOURCE[0]}" | cksum)"
extras_wanted=$extras
end_if_up_to_date() {
  local versions_there='' extras_there='' missing='' extra
  there=''
  if [ -x "$venv/bin/python" ] && [ -f "$stamp" ]; then
    { read -r versions_there; read -r extras_there || true; } < "$stamp"
    if [ "$versions_there" = "$versions" ]; then there=base,$extras_there; fi
  fi
  for extra in ${extras_wanted//,/ }; do
    case ",$extras_there," in *",$extra,"*) ;; *) missing=${missing:+$missing,}$extra ;; esac
  done
  if [ -n "$there" ] && [ -z "$missing" ]; then
    say "$venv is up to date"
    exit 0
  fi
  extras=$extras_there${missing:+${extras_there:+,}$missing}
}
end_if_up_to_date

# ---- what takes long is a process group of its own: a signal is heard here at once, and ends all of it
child='' ticker='' making='' starting='' stopped=''
# Says the line every 4 s while the command runs: a new environment and a first import of torch take their time
saying() {
  local code=0
  starting=yes
  if [ -n "$1" ]; then
    ( while sleep 4 > /dev/null 2>&1 && kill -0 $$ 2> /dev/null; do say "$1"; done ) 9>&- &
    ticker=$!
  fi
  set -m
  "${@:2}" <&0 &
  child=$!
  set +m
  starting=''
  [ -z "$stopped" ] || leave
  wait "$child" || code=$?
  [ -z "$stopped" ] || leave
  child=''
  end_ticker
  return "$code"
}
end_ticker() {
  [ -z "$ticker" ] || kill "$ticker" 2> /dev/null || true
  ticker=''
}
# EXIT CODE, of a trap. Nothing is started in here and nothing awaited: in a trap, bash 5.2 was seen to wait for ever for
# one that had ended. `saying` does the rest as soon as it has ended.
stop() {
  stopped=$1
  [ -z "$starting" ] || return 0
  [ -n "$child" ] || leave
  kill -TERM -- "-$child" 2> /dev/null || true
}
leave() {
  trap '' INT TERM HUP
  set +e
  local n
  end_ticker
  if [ -n "$child" ]; then
    kill -TERM -- "-$child" 2> /dev/null
    for ((n = 0; n < 100; n++)); do
      kill -0 -- "-$child" 2> /dev/null || break
      sleep 0.1
    done
    kill -KILL -- "-$child" 2> /dev/null
  fi
  [ -z "$making" ] || empty
  [ ! -t 2 ] || printf '\r\033[K' >&2 # over what install.py writes there again and again
  say "stopped; the same command goes on" >&2
  exit "$stopped"
}

# ---- one at a time in a folder that is ours to fill. The lock is that of an open file, which the children have open too:
# it ends with the last of them, however they end.
lock=$venv/.setup-lock half=$venv/.half-made
# The folder itself stays: it may be a link to a bigger disk
empty() { find "$venv/" -mindepth 1 -maxdepth 1 ! -name .setup-lock ! -name .half-made -exec rm -rf {} + && rm -f "$half"; }
if [ -e "$venv" ] && [ ! -d "$venv" ]; then fail "$venv is no folder: say another one (--venv DIR)"; fi
if [ -d "$venv" ] && [ ! -e "$venv/pyvenv.cfg" ] && [ ! -e "$half" ] \
  && [ -n "$(find "$venv/" -mindepth 1 ! -name .setup-lock 2> /dev/null | head -n 1)" ]; then
  fail "$venv has files in it and is no virtual environment (no pyvenv.cfg): say a folder that is empty or not there yet (--venv DIR)"
fi
mkdir -p "$venv" && exec 9>> "$lock" || fail "cannot write into $venv: say another folder (--venv DIR)"
trap 'stop 130' INT
trap 'stop 143' TERM
trap 'stop 129' HUP
if command -v flock > /dev/null; then
  code=0
  flock -n 9 2> /dev/null || code=$?
  # any other code: a disk without locks
  if [ "$code" = 1 ]; then
    say "another set-up is at work in $venv ($(cat "$lock")): waiting for it"
    saying "still waiting for it" flock 9 || fail "could not wait for it, see above"
    end_if_up_to_date
  fi
fi
echo "process $$ on $HOSTNAME" > "$lock"

# ---- an environment that is whole or absent
# Stopped while it was made it has a mark, or no pip and nothing else either
has_pip() { "$venv/bin/python" -m pip --version > /dev/null 2>&1; }
if [ -e "$half" ]; then
  say "$venv is half made, as it was stopped: making it anew"
  empty
elif [ -x "$venv/bin/python" ] && ! has_pip; then
  if [ -n "$(find "$venv/" -path '*/site-packages/*.dist-info' ! -name 'pip-*' ! -name 'setuptools-*' | head -n 1)" ]; then
    fail "$venv has packages in it but no pip that works: remove that folder, or add pip with $venv/bin/python -m ensurepip"
  fi
  say "$venv has no pip that works: making it anew"
  empty
fi
if [ ! -x "$venv/bin/python" ]; then
  python=${PYTHON:-}
  for candidate in python3.11 python3.12 python3.13 python3; do
    [ -z "$python" ] || break
    # run it: a pyenv shim exists also for versions that are not there
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$candidate; fi
  done
  [ -n "$python" ] || fail "no Python 3.11 or newer found: install one (Debian: apt-get install python3 python3-venv; a cluster: module avail python) or set PYTHON=/path/to/python3"
  "$python" -c 'import venv, ensurepip' 2>/dev/null \
    || fail "$(command -v "$python") has no venv module: apt-get install python3-venv, or set PYTHON=/path/to/another/python3"
  say "making $venv with $("$python" --version)"
  if [ ! -e "$venv/pyvenv.cfg" ]; then making=yes; touch "$half"; fi
  saying "still making it" "$python" -m venv "$venv" || fail "could not make $venv, see above"
  rm -f "$half"
  making=''
fi
rm -f "$stamp"
py=$venv/bin/python

# ---- the packages. The environment variables carry the pins into the isolated builds of source packages too.
say "installing what is needed${extras:+ and the extras $extras} with the pins of env/constraints-$kind.txt"
unset PYTHONPATH
# As URLs: pip splits its environment variables at spaces, and a path may hold one.
url="file://${constraints// /%20}"
export PIP_CONSTRAINT=$url PIP_BUILD_CONSTRAINT=$url PIP_DISABLE_PIP_VERSION_CHECK=1
# compat: a line in a .pth file. The default, an import hook, costs every Python that starts here 10 ms.
code=0 torch=
if [ "$kind" = cpu ]; then torch=$(sed -n 's/^torch==//p' "$constraints"); fi
saying '' "$py" "$repo/env/install.py" --extras "$extras" --there "$there" --torch "$torch" $no_cuda \
  install -c "$constraints" --config-settings editable_mode=compat -e "$repo${extras:+[$extras]}" || code=$?
[ "$code" != 3 ] || exit 3
[ "$code" != 4 ] || fail "went no further: --no-cuda was said, and whether torch comes with CUDA could not be asked"
[ "$code" = 0 ] || fail "pip failed, see above; no network on this machine? Run this on a login node"
# What building leaves here goes before what is installed, also when it is older
rm -rf "$repo/hpc_eegdecode.egg-info"
# ---- torchaudio. Its compiled part is linked against CUDA and one torch; the transforms are plain torch and need none
# of it. So where it cannot be loaded, the compiled part goes and the transforms stay.
audio='import torchaudio'
say "looking whether it works together"
if ! saying "still importing" "$py" -c "$audio" 2>/dev/null; then
  lib=$("$py" -c 'import importlib.util as u; print(u.find_spec("torchaudio").submodule_search_locations[0])')/lib
  case $lib in "$venv"/*/torchaudio/lib) ;; *) fail "torchaudio does not import and is not in $venv but in $lib" ;; esac
  find "$lib" -name '*.so' -delete
  say "removed torchaudio's compiled libraries: linked against another torch, and the transforms do not need them"
fi

# ---- a look that all of it works together
saying "still importing" "$py" - "$kind" <<'PY' || fail "the installed packages do not work together, see above; remove $venv and try again"
import sys
import h5py, mne, submitit, torch, torchaudio

mel = torchaudio.transforms.MelSpectrogram(16000, n_fft=400, n_mels=40)(torch.zeros(1, 16000))
assert mel.shape == (1, 40, 81), mel.shape
print(f"setup: torch {torch.__version__}, torchaudio {torchaudio.__version__}, mne {mne.__version__}, h5py {h5py.__version__}")
if sys.argv[1] == "cuda" and torch.version.cuda is None:
    sys.exit("this torch was built without CUDA: on this platform PyPI has no CUDA build, see env/README.md")
if sys.argv[1] == "cuda":
    print(f"setup: CUDA {torch.version.cuda}, {torch.cuda.device_count()} GPUs visible here")
PY
printf '%s\n' "$versions" "$extras" > "$stamp"
say "done; next: . env/activate.sh"

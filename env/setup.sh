#!/usr/bin/env bash
# Makes the virtual environment and installs this repository in it, editable, with pinned versions.
#   env/setup.sh cpu|cuda [--venv .venv] [--extras test,dev,audio,mpi,wandb] [--no-cuda]
# Run it as often as you like: nothing is done while setup.cfg, setup.py, the pins and this script are unchanged and the extras
# are there. What was asked for before stays: extras are added, never taken away.
# PYTHON=/path/to/python3.12 chooses the interpreter. --no-cuda ends with exit code 3 where torch comes with CUDA only.
set -euo pipefail

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit "${2:-1}"; }

usage='usage: env/setup.sh cpu|cuda [--venv .venv] [--extras test,dev,audio,mpi,wandb] [--no-cuda]'
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
kind=${1:-}
case $kind in
  cpu | cuda) shift ;;
  *) printf '%s\n' "$usage" "the first word is cpu or cuda, but got '$kind' instead" >&2; exit 2 ;;
esac
venv=$repo/.venv extras='' no_cuda=
while [ $# -gt 0 ]; do
  if [ "$1" = --no-cuda ]; then no_cuda=--no-cuda; shift; continue; fi
  if [ $# -lt 2 ]; then printf '%s\n' "$usage" "$1 needs a value" >&2; exit 2; fi
  case $1 in
    --venv) case $2 in /*) venv=$2 ;; *) venv=$PWD/$2 ;; esac ;;
    --extras) extras=$2 ;;
    *) printf '%s\n' "$usage" "unknown option '$1'" >&2; exit 2 ;;
  esac
  shift 2
done
for extra in ${extras//,/ }; do
  case $extra in
    test | dev | audio | mpi | wandb) ;;
    *) printf '%s\n' "$usage" "allowed extras are test, dev, audio, mpi, wandb, but got '$extra' instead" >&2; exit 2 ;;
  esac
done
constraints=$repo/env/constraints-$kind.txt

# ---- the interpreter that is there is the one that is asked for
version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2> /dev/null; }
if [ -n "${PYTHON:-}" ] && [ -x "$venv/bin/python" ]; then
  asked=$(version_of "$PYTHON") || fail "PYTHON=$PYTHON does not run"
  has=$(version_of "$venv/bin/python") || fail "the Python of $venv does not run any more: remove that folder and start again"
  [ "$asked" = "$has" ] || fail "$venv has Python $has, and PYTHON=$PYTHON is $asked: say another folder (--venv .venv-$asked, with make VENV=.venv-$asked), or remove that one"
fi

# ---- nothing to do? The stamp's first line is all that decides which versions get installed, its second the extras.
stamp=$venv/.setup-stamp
versions="$kind $(cat "$repo"/setup.* "$repo/pyproject.toml" "$constraints" "${BASH_SOURCE[0]}" | cksum)"
versions_there='' extras_there='' there=''
if [ -x "$venv/bin/python" ] && [ -f "$stamp" ]; then
  { read -r versions_there; read -r extras_there || true; } < "$stamp"
  if [ "$versions_there" = "$versions" ]; then there=base,$extras_there; fi
fi
missing=
for extra in ${extras//,/ }; do
  case ",$extras_there," in *",$extra,"*) ;; *) missing=${missing:+$missing,}$extra ;; esac
done
if [ -n "$there" ] && [ -z "$missing" ]; then
  say "$venv is up to date"
  exit 0
fi
extras=$extras_there${missing:+${extras_there:+,}$missing}

# Says the line every 4 s while the command runs: a new environment and a first import of torch take their time
saying() {
  ( while sleep 4 > /dev/null 2>&1 && kill -0 $$ 2> /dev/null; do say "$1"; done ) &
  local ticker=$! code=0
  "${@:2}" || code=$?
  kill "$ticker" 2> /dev/null || true
  wait "$ticker" 2> /dev/null || true
  return "$code"
}

# ---- an interpreter
if [ ! -x "$venv/bin/python" ]; then
  python=
  for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3.12 python3.13 python3; do
    # run it: a pyenv shim exists also for versions that are not there
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      python=$candidate
      break
    fi
  done
  [ -n "$python" ] || fail "no Python 3.11 or newer found: install one (Debian: apt-get install python3 python3-venv; a cluster: module avail python) or set PYTHON=/path/to/python3"
  "$python" -c 'import venv, ensurepip' 2>/dev/null \
    || fail "$(command -v "$python") has no venv module: apt-get install python3-venv, or set PYTHON=/path/to/another/python3"
  say "making $venv with $("$python" --version)"
  saying "still making it" "$python" -m venv "$venv"
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
"$py" "$repo/env/install.py" --extras "$extras" --there "$there" --torch "$torch" $no_cuda \
  install -c "$constraints" --config-settings editable_mode=compat -e "$repo${extras:+[$extras]}" || code=$?
[ "$code" != 3 ] || exit 3
[ "$code" = 0 ] || fail "pip failed, see above; no network on this machine? Run this on a login node"
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

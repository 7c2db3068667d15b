# shellcheck shell=sh
# Source this, in a shell or a job: `. env/activate.sh` from the repository's root, or from anywhere in bash and zsh.
#   ENV_PACK=/shared/env.tar . env/activate.sh    unpacks env/pack.sh's file once per node to local disk and uses that
#   ENV_VENV=/path/to/venv . env/activate.sh      another virtual environment than .venv
# Plain sh, and safe under `set -u` and `set -e`. What you set yourself stays.

# shellcheck disable=SC3028 # sh leaves BASH_SOURCE empty, and does not say which file it reads: then the folder decides
_env_here=${BASH_SOURCE:-$0}
case $_env_here in
  */activate.sh | activate.sh)
    # Run and not read, this is the shell's own file. zsh names the file it reads so, too, and says that it reads it
    case ${ZSH_EVAL_CONTEXT:-} in
      *:file*) ;;
      *)
        if [ "$_env_here" = "$0" ]; then
          echo "activate: source this, as a program of its own it changes nothing for your shell: . $0" >&2
          # shellcheck disable=SC2317 # bash does not return from a program, and goes on to exit
          return 2 2> /dev/null || exit 2
        fi
        ;;
    esac
    _env_repo=$(cd "$(dirname "$_env_here")/.." && pwd)
    ;;
  *) _env_repo=$PWD ;;
esac
_env_tmp=${TMPDIR:-/tmp}
_env_venv=${ENV_VENV:-$_env_repo/.venv}

if [ -n "${ENV_PACK:-}" ]; then
  if [ ! -f "$ENV_PACK" ]; then
    echo "activate: no file ENV_PACK=$ENV_PACK: make it with env/pack.sh, on a disk the nodes see" >&2
    return 1
  fi
  # The name changes with the file's time and size, so a new pack is never mistaken for the old one. flock lets one rank
  # of a node unpack while the others wait, and frees the lock when that rank is killed; the rename comes last, so half
  # an environment has another name.
  _env_venv=$_env_tmp/env-$(id -u)-$(stat -c '%n %Y %s' "$ENV_PACK" | cksum | cut -d' ' -f1)
  # shellcheck disable=SC2016 # the inner shell fills in $1 and $2
  if [ ! -d "$_env_venv" ] && ! flock "$_env_venv.lock" sh -ec '
    [ ! -d "$2" ] || exit 0
    rm -rf "$2.part"
    mkdir -m 700 "$2.part"
    tar -xf "$1" -C "$2.part"
    mv "$2.part" "$2"
  ' sh "$ENV_PACK" "$_env_venv"; then
    echo "activate: could not unpack $ENV_PACK to $_env_tmp, see above: is there room? TMPDIR chooses the place" >&2
    return 1
  fi
  # shellcheck disable=SC3067 # -O is in every sh we meet: bash, dash, zsh, busybox
  if [ ! -O "$_env_venv" ]; then
    echo "activate: $_env_venv belongs to somebody else: set TMPDIR to a folder of yours" >&2
    return 1
  fi
fi

if [ ! -x "$_env_venv/bin/python" ]; then
  if [ -L "$_env_venv/bin/python" ]; then
    echo "activate: $_env_venv needs the Python it was made with, and $(readlink -m "$_env_venv/bin/python") is not on this machine: load its module, or make the environment again here with env/setup.sh" >&2
  elif [ -z "${ENV_VENV:-}${ENV_PACK:-}" ] && [ ! -e "$_env_repo/env/activate.sh" ]; then
    echo "activate: looked for .venv in $_env_repo, as this shell does not say which file it reads: source it from the repository's root, or set ENV_VENV=/path/to/.venv" >&2
  else
    echo "activate: no environment in $_env_venv: run env/setup.sh cpu (or cuda), or set ENV_VENV or ENV_PACK" >&2
  fi
  return 1
fi

# Not the venv's own activate: it holds the path the venv was made under, and a packed one is elsewhere.
export VIRTUAL_ENV="$_env_venv"
case $PATH: in "$_env_venv/bin:"*) ;; *) export PATH="$_env_venv/bin:$PATH" ;; esac
unset PYTHONHOME
# HDF5 locks fail on shared disks; our files have one writer each and are renamed into place.
export HDF5_USE_FILE_LOCKING="${HDF5_USE_FILE_LOCKING:-FALSE}"
if [ -n "${SLURM_JOB_ID:-}" ]; then
  # In a job: caches on node-local disk. $HOME is small, slow and shared by all ranks (stale handles, races).
  _env_cache=$_env_tmp/cache-$(id -u)
  export TRITON_CACHE_DIR="${TRITON_CACHE_DIR:-$_env_cache/triton}"
  export TORCHINDUCTOR_CACHE_DIR="${TORCHINDUCTOR_CACHE_DIR:-$_env_cache/inductor}"
  export CUDA_CACHE_PATH="${CUDA_CACHE_PATH:-$_env_cache/cuda}"
  export MPLCONFIGDIR="${MPLCONFIGDIR:-$_env_cache/matplotlib}"
  export XDG_CACHE_HOME="${XDG_CACHE_HOME:-$_env_cache/xdg}"
  # Without it every rank starts one thread per core of the node.
  export OMP_NUM_THREADS="${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}"
fi
unset _env_here _env_repo _env_tmp _env_venv _env_cache

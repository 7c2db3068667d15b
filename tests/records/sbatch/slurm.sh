#!/bin/bash

# Parameters
#SBATCH --account=hpc-x
#SBATCH --chdir=/home/me/study
#SBATCH --cpus-per-task=1
#SBATCH --gres=gpu:2
#SBATCH --job-name=train-brwww2md
#SBATCH --mem=16384M
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=2
#SBATCH --open-mode=append
#SBATCH --output=/scratch/runs/train-brwww2md/jobs/%j_0_log.out
#SBATCH --requeue
#SBATCH --signal=B:USR2@120
#SBATCH --time=60

# setup
set -eu
umask 077
trap '' USR2
export PYTHONPATH=''

# command
export SUBMITIT_EXECUTOR=slurm
exec /opt/env/bin/python -PBu /scratch/runs/train-brwww2md/code/code.zip -u -m submitit.core._submit /scratch/runs/train-brwww2md/jobs

#!/bin/bash

# Parameters
#SBATCH --account=hpc-x-gpu-gh200
#SBATCH --chdir=/home/me/study
#SBATCH --cpus-per-task=8
#SBATCH --gres=gpu:4
#SBATCH --job-name=train-brwww2md
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --open-mode=append
#SBATCH --output=/scratch/runs/train-brwww2md/jobs/%j_0_log.out
#SBATCH --partition=plgrid-gpu-gh200
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

#!/bin/bash

# Parameters
#SBATCH --account=hpc-x
#SBATCH --chdir=/home/me/study
#SBATCH --cpus-per-task=16
#SBATCH --gres=gpu:hopper:4,storage:local:200G
#SBATCH --job-name=train-brwww2md
#SBATCH --mem=491520M
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --open-mode=append
#SBATCH --output=/scratch/runs/train-brwww2md/jobs/%j_0_log.out
#SBATCH --partition=lem-gpu-short
#SBATCH --requeue
#SBATCH --signal=B:USR2@120
#SBATCH --time=720

# setup
source /usr/local/sbin/modules.sh
module purge
set -eu
umask 077
trap '' USR2
export PYTHONPATH=''

# command
export SUBMITIT_EXECUTOR=slurm
exec /opt/env/bin/python -PBu /scratch/runs/train-brwww2md/code/code.zip -u -m submitit.core._submit /scratch/runs/train-brwww2md/jobs

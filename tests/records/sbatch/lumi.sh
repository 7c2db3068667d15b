#!/bin/bash

# Parameters
#SBATCH --account=hpc-x
#SBATCH --chdir=/home/me/study
#SBATCH --cpus-per-task=7
#SBATCH --gpus-per-node=8
#SBATCH --job-name=train-brwww2md
#SBATCH --mem=491520M
#SBATCH --nodes=8
#SBATCH --ntasks-per-node=8
#SBATCH --open-mode=append
#SBATCH --output=/scratch/runs/train-brwww2md/jobs/%j_0_log.out
#SBATCH --partition=standard-g
#SBATCH --requeue
#SBATCH --signal=B:USR2@120
#SBATCH --time=60

# setup
set -eu
umask 077
trap '' USR2
export NCCL_NET_GDR_LEVEL=3
export SLURM_CPU_BIND=mask_cpu=0x00fe000000000000,0xfe00000000000000,0xfe0000,0xfe000000,0xfe,0xfe00,0xfe00000000,0xfe0000000000
export PYTHONPATH=''

# command
export SUBMITIT_EXECUTOR=slurm
exec /opt/env/bin/python -PBu /scratch/runs/train-brwww2md/code/code.zip -u -m submitit.core._submit /scratch/runs/train-brwww2md/jobs

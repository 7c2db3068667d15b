"""
A decoded envelope beside the true one
======================================

The demo decodes the envelope of music. A correlation with the piece that was heard says little by itself, as all
pieces begin with a rise; so each is compared with the other pieces too.
"""

# %%
# The runs of the demo. The line of the terminal, from Python: if it has run before, it only tells the names.
import json
import subprocess
import sys
from pathlib import Path

line = "-m hpc.launch pipeline demo --on local --json"
done = subprocess.run([sys.executable, *line.split()], stdout=subprocess.PIPE, check=True)
names = [row["run"] for row in json.loads(done.stdout)]
folders = {name.partition("-")[0]: Path("runs") / name for name in names}
print(*folders.values(), sep="\n")

# %%
import eegdecode

decoded = eegdecode.read_predictions(folders["evaluate"] / "out/predictions.h5")
ridge = decoded.by("ridge")
print(len(decoded.trials), "trials of the test set at", decoded.sfreq, "Hz")

# %%
# Presented, decoded by the network, and by ridge regression; each with mean 0 and spread 1, as a correlation sees them.
import matplotlib.pyplot as plt
import numpy as np

trial, of_ridge = decoded.trials[0], ridge.trials[0]
seconds = np.arange(len(trial.target)) / decoded.sfreq
figure, axis = plt.subplots(figsize=(9, 3), layout="constrained")
lines = {"presented": trial.target, "network": trial.output, "ridge": of_ridge.output}
for (name, values), color in zip(lines.items(), ("0.2", "C0", "C1"), strict=True):
    axis.plot(seconds, (values[:, 0] - values.mean()) / values.std(), color=color, label=name, lw=1.2)
axis.set(xlabel="seconds", ylabel="envelope, standardised", title=f"{trial.subject}, {trial.stimulus}")
axis.legend(ncols=3)

# %%
# Each output against each piece of the test set: the diagonal is the piece that was heard.
pieces = sorted({each.stimulus for each in decoded.trials})
presented = {each.stimulus: each.target[:, 0] for each in decoded.trials}
matrix = np.full((len(decoded.trials), len(pieces)), np.nan)
for row, each in enumerate(sorted(decoded.trials, key=lambda each: each.stimulus)):
    for column, piece in enumerate(pieces):
        n = min(len(each.output), len(presented[piece]))
        matrix[row, column] = np.corrcoef(each.output[:n, 0], presented[piece][:n])[0, 1]
own = [pieces.index(each.stimulus) for each in sorted(decoded.trials, key=lambda each: each.stimulus)]
heard = np.mean([matrix[row, column] for row, column in enumerate(own)])
others = (matrix.sum() - heard * len(own)) / (matrix.size - len(own))
figure, axis = plt.subplots(figsize=(5, 4.5), layout="constrained")
picture = axis.imshow(matrix, aspect="auto", cmap="RdBu_r", vmin=-1, vmax=1)
axis.set_xticks(range(len(pieces)), pieces, rotation=30, ha="right")
axis.set(ylabel="decoded trials", title=f"r {heard:.2f} with the piece heard, {others:.2f} with others")
figure.colorbar(picture, ax=axis, label="correlation")
assert heard > others + 0.1

"""
Learning curves
===============

Each step of a training is a line of ``metrics.jsonl`` in its run folder: loss, learning rate, the norm of the
gradient, seconds, and at some steps the figures of the validation set.
"""

# %%
# The runs of the recipe. The line of the terminal, from Python: if it has run before, it only tells the names.
import json
import subprocess
import sys
from pathlib import Path

line = "-m hpc.launch pipeline motor-eegnet --preset size=tiny --on local --json"
done = subprocess.run([sys.executable, *line.split()], stdout=subprocess.PIPE, check=True)
names = [row["run"] for row in json.loads(done.stdout)]
folders = {name.partition("-")[0]: Path("runs") / name for name in names}
print(*folders.values(), sep="\n")

# %%
# A line has what was measured at its step.
steps = [json.loads(text) for text in (folders["train"] / "metrics.jsonl").read_text().splitlines()]
print(steps[-1])

# %%
# Loss, accuracy and learning rate. The dot is the step whose parameters were kept: the lowest validation loss.
import matplotlib.pyplot as plt

validations = [row for row in steps if "val_loss" in row]
best = min(validations, key=lambda row: row["val_loss"])
figure, (loss, accuracy, rate) = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
loss.plot([row["step"] for row in steps], [row["loss"] for row in steps], lw=0.6, label="training")
loss.plot([row["step"] for row in validations], [row["val_loss"] for row in validations], label="validation")
loss.plot(best["step"], best["val_loss"], "o", color="C3")
loss.set(xlabel="step", title="loss", ylim=(0, None))
loss.legend()
accuracy.plot([row["step"] for row in validations], [row["val_accuracy"] for row in validations])
accuracy.set(xlabel="step", title="validation accuracy", ylim=(0, 1.05))
rate.plot([row["step"] for row in steps], [row["lr"] for row in steps])
rate.set(xlabel="step", title="learning rate")

# %%
# How the seconds were spent: the share of a step that waited for data.
waited = sum(row["data_wait_s"] for row in steps)
print(f"{100 * waited / sum(row['seconds'] for row in steps):.1f} % of the time waited for data")

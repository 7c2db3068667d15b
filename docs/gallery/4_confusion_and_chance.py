"""
Predictions: confusion, chance and the null
===========================================

``evaluate`` writes its predictions window by window, so every metric can be computed again without the model.
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
import eegdecode

decoded = eegdecode.read_predictions(folders["evaluate"] / "out/predictions.h5")
print(len(decoded.trials), "windows of", ", ".join(decoded.classes))
print("linear decoders of the same windows:", *decoded.baselines)

# %%
# The figures of the report, from these predictions. A figure has its chance, the bound of the null, and p.
from eegdecode.evaluation import results
from eegdecode.evaluation.config import Scoring

result = results.evaluate(decoded, Scoring())
print(result.headline, result.figures[result.headline])
print("the network is", result.verdict)

# %%
# The confusion matrix: rows are the true classes.
import matplotlib.pyplot as plt
import numpy as np

confusion = np.array(result.confusion)
figure, axis = plt.subplots(figsize=(4.5, 4), layout="constrained")
axis.imshow(confusion / confusion.sum(axis=1, keepdims=True), cmap="Blues", vmin=0, vmax=1)
names = [name.replace("_", " ") for name in decoded.classes]
axis.set_xticks(range(len(names)), names, rotation=30, ha="right")
axis.set_yticks(range(len(names)), names)
for (row, column), count in np.ndenumerate(confusion):
    axis.text(column, row, count, ha="center", va="center", color="white" if row == column else "black")
axis.set(xlabel="decoded", ylabel="true")

# %%
# The null of this design: the same outputs, and the truth permuted in ways in which the experiment could have gone.
# What 95 % of it stay below is the bound; the value is beside it.
from eegdecode.evaluation.metrics import metrics

metric = metrics("classes")[result.headline]
null = metric.null(decoded, Scoring())
figure, axis = plt.subplots(figsize=(6, 2.8), layout="constrained")
axis.hist(np.ravel(null), bins=30, color="0.7")
axis.axvline(result.figures[result.headline].bound, color="0.3", ls="--", label="95 % of the null")
axis.axvline(result.figures[result.headline].value, color="C0", lw=2, label="network")
axis.set(xlabel=metric.label, ylabel="draws", title=f"p = {result.figures[result.headline].p:.3f}")
axis.legend()

# %%
# A metric of your own: how sure the network is where it is wrong, from its log probabilities.
outputs = np.stack([trial.output[0] for trial in decoded.trials])
truth = np.array([int(trial.target[0, 0]) for trial in decoded.trials])
sure = np.exp(outputs).max(axis=1)
right = outputs.argmax(axis=1) == truth
print(f"mean probability of the decoded class: {sure[right].mean():.2f} where right", end="")
print(f", {sure[~right].mean():.2f} where wrong" if (~right).any() else ", and none is wrong")

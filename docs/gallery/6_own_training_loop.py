"""
Your own loop, with torch
=========================

A run as a ``torch.utils.data.Dataset``, one of our models by its name, and ten lines of a loop that are yours. Then
the model that ``train`` has left.
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
# Windows of 3 s and the number of the class of each. The samples are read from memory maps, by workers of a
# DataLoader too.
import eegdecode

run = eegdecode.open(folders["preprocess"])
data = run.dataset("stimulus", tmin=0.5, tmax=3.5)
x, y = data[0]
print(x.shape, data.classes[y], data.spec.sfreq, "Hz")

# %%
# Recordings are a group: none is in both sets. Models take [window, time, channel] and the number of the subject.
import numpy as np
import torch
from dataclasses import replace

from eegdecode import models
from eegdecode.models.shallow import Shallow

recordings = np.array([row["recording"] for row in data.metadata])
is_test = recordings == sorted(set(recordings))[-1]
train = torch.utils.data.Subset(data, np.flatnonzero(~is_test).tolist())
test = torch.utils.data.Subset(data, np.flatnonzero(is_test).tolist())
torch.manual_seed(0)
network = models.build(Shallow(), replace(data.spec, n_outputs=len(data.classes), n_times=x.shape[1]))
print(f"{sum(each.numel() for each in network.parameters())} parameters; {len(train)} windows to learn from")

# %%
optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
losses = []
for _ in range(4):
    for x, y in torch.utils.data.DataLoader(train, batch_size=16, shuffle=True):
        logits = network(x.transpose(1, 2), torch.zeros(len(x), dtype=torch.long))
        loss = torch.nn.functional.cross_entropy(logits, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

# %%
import matplotlib.pyplot as plt

network.eval()
with torch.no_grad():
    x, y = next(iter(torch.utils.data.DataLoader(test, batch_size=len(test))))
    decoded = network(x.transpose(1, 2), torch.zeros(len(x), dtype=torch.long)).argmax(dim=1)
right = (decoded == y).float().mean().item()
figure, axis = plt.subplots(figsize=(6, 2.8), layout="constrained")
axis.plot(losses)
axis.set(xlabel="step", ylabel="cross-entropy", title=f"{right:.2f} of a recording that it has not seen; chance 0.25")

# %%
# Your loop has no checkpoints, no requeue and no other nodes. For these give the model to ``train``, as the guide
# says in Parts of your own. What ``train`` leaves is read so; its parameters are those of the best validation.
trained = eegdecode.read_model(folders["train"] / "out")
print(trained.model, trained.step, trained.validation)
print(trained.network()(torch.zeros(1, x.shape[2], x.shape[1]), torch.zeros(1, dtype=torch.long)).shape)

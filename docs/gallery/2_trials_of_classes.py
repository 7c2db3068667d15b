"""
Trials of classes: evoked, band power, a linear decoder
=======================================================

The trials of a run as ``mne.Epochs``, their band power over the head, and a decoder of scikit-learn on the same
windows.
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
# All trials of both subjects. The labels of a trial name the events; the others are its metadata, if pandas is
# installed.
import eegdecode

run = eegdecode.open(folders["preprocess"])
epochs = run.epochs(tmin=0.5, tmax=3.5)
print(epochs)

# %%
# The recipe plants what imagined movements do: the mu rhythm becomes weaker over the part of the motor cortex that
# would move, for a hand on the other side. Its power in one class, divided by that in all:
import matplotlib.pyplot as plt
import mne
import numpy as np

power = {
    name: epochs[name].compute_psd(fmin=8, fmax=13, verbose="error").get_data().mean(axis=(0, 2))
    for name in epochs.event_id
}
everywhere = np.mean(list(power.values()), axis=0)
figure, axes = plt.subplots(1, len(power), figsize=(8, 2.6), layout="constrained")
for axis, (name, of_class) in zip(axes, power.items(), strict=True):
    picture, _ = mne.viz.plot_topomap(
        10 * np.log10(of_class / everywhere), epochs.info, axes=axis, vlim=(-3, 3), extrapolate="local", show=False
    )
    axis.set_title(name.replace("_", " "))
figure.colorbar(picture, ax=axes, label="dB")

# %%
# As arrays, for whatever you have: ``X`` [window, channel, time], ``y`` the number of the class, and a row of
# metadata a window. The logarithm of the power between 8 and 30 Hz and a linear decoder, each recording left out
# once:
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict

X, y, metadata = run.numpy("stimulus", tmin=0.5, tmax=3.5)
spectrum = np.abs(np.fft.rfft(X, axis=2)) ** 2
hz = np.fft.rfftfreq(X.shape[2], 1 / 128)
bands = [spectrum[:, :, (hz >= low) & (hz < low + 4)].mean(axis=2) for low in range(8, 30, 4)]
features = np.log(np.concatenate(bands, axis=1))
groups = [row["recording"] for row in metadata]
decoded = cross_val_predict(
    LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"), features, y, groups=groups, cv=LeaveOneGroupOut()
)
print(f"{np.mean(decoded == y):.2f} of {len(y)} windows are right; chance is {1 / len(set(y)):.2f}")
assert np.mean(decoded == y) > 1.3 / len(set(y))

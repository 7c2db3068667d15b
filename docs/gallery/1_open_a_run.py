"""
What is in a preprocess run
===========================

``eegdecode.open`` gives what ``preprocess`` has stored as objects of MNE, numpy and torch. Each file is verified
before its first sample is read, and only what is asked for is read.
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
# It says how much there is: recordings, subjects, trials, and what can be decoded.
import eegdecode

run = eegdecode.open(folders["preprocess"])
print(run)
print(*run.recordings, sep="\n")

# %%
# A recording as ``mne.io.Raw``, not preloaded. Trials and bad spans are its annotations.
raw = run.raw(run.recordings[0])
print(raw.info)
print(raw.annotations[:3])

# %%
# Its spectrum: what is left after reference, notch, 0.5 to 20 Hz and 64 samples a second.
raw.compute_psd(fmax=30, verbose="error").plot(spatial_colors=False, show=False)

# %%
# The same recording as memory-mapped arrays, beside the target, the envelope of the music that was heard. Target and
# signal have clocks of their own, which begin together.
import matplotlib.pyplot as plt
import numpy as np

stored = run.stored(run.recordings[0])
trial = stored.trials[0]
first, stop = round(trial.start * stored.sfreq), round((trial.start + trial.duration) * stored.sfreq)
signal = stored.read(first, stop)
sfreq = stored.target_sfreq("envelope")
heard = stored.target("envelope")[round(trial.start * sfreq) : round((trial.start + trial.duration) * sfreq), 0]

figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(8, 4), layout="constrained")
above.plot(np.arange(len(signal)) / stored.sfreq, signal[:, :3], lw=0.8)
above.set(ylabel="EEG, scaled", title=f"{stored.subject} hears {trial.stimulus}")
below.plot(np.arange(len(heard)) / sfreq, heard, color="C3")
below.set(xlabel="seconds", ylabel="envelope")

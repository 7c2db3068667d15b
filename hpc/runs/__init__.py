"""The run folder: its files, the list of its products, the state of a run. As a function, `hpc.runs()` gives a record
of each run: see hpc/notebook.py."""

import sys

from hpc.room import CallableRoom

sys.modules[__name__].__class__ = CallableRoom

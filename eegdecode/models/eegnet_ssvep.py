"""EEGNet for steady-state visual potentials (Waytowich 2018, J Neural Eng 15:066031)."""

from eegdecode.models.eegnet import Network

__all__ = ["Network"]

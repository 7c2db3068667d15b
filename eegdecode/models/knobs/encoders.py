"""The models that make outputs of a signal, and may be parts of others."""

from eegdecode.models.knobs.external import Braindecode
from eegdecode.models.knobs.masked import EEGPT, MAE, TFC
from eegdecode.models.knobs.recurrent import BiLSTM
from eegdecode.models.knobs.speech import BrainModule

Encoder = BiLSTM | BrainModule | Braindecode | EEGPT | MAE | TFC

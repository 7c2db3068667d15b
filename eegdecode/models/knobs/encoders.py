"""The models that make outputs of a signal, and may be parts of others."""

from eegdecode.models.knobs.convolutional import LFCNN, VARCNN, Conformer, Deep4, EEGNet, EEGNetSSVEP, Shallow
from eegdecode.models.knobs.external import Braindecode
from eegdecode.models.knobs.graphs import STGATE, Hybrid
from eegdecode.models.knobs.masked import EEGPT, MAE, TFC
from eegdecode.models.knobs.recurrent import BiLSTM
from eegdecode.models.knobs.speech import BrainModule
from eegdecode.models.knobs.streaming import TCN, Transformer

Encoder = (
    BiLSTM | BrainModule | Braindecode | Conformer | Deep4 | EEGNet | EEGNetSSVEP | EEGPT | Hybrid | LFCNN | MAE
    | STGATE | Shallow | TCN | TFC | Transformer | VARCNN
)  # fmt: skip

"""The models that decode a signal, and can be encoders within other models."""

from eegdecode.models.config.convolutional import LFCNN, VARCNN, Conformer, Deep4, EEGNet, EEGNetSSVEP, Shallow
from eegdecode.models.config.external import Braindecode
from eegdecode.models.config.graphs import STGATE, Hybrid
from eegdecode.models.config.masked import EEGPT, MAE, TFC
from eegdecode.models.config.recurrent import BiLSTM
from eegdecode.models.config.speech import BrainModule
from eegdecode.models.config.streaming import TCN, Transformer

Encoder = (
    BiLSTM | BrainModule | Braindecode | Conformer | Deep4 | EEGNet | EEGNetSSVEP | EEGPT | Hybrid | LFCNN | MAE
    | STGATE | Shallow | TCN | TFC | Transformer | VARCNN
)  # fmt: skip

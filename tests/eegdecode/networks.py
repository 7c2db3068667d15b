"""Small networks that stand for CLIP, wav2vec 2.0 and the like in tests of features."""

import torch
from torch import nn


class Eye(nn.Module):
    """Of pictures: a map of patches, blocks, and five numbers."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.blocks = nn.ModuleList([nn.Conv2d(width, width, 1) for _ in range(2)])
        self.unused = nn.Linear(1, 1)
        self.head = nn.Linear(width, 5)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        values = self.patches(pictures)
        for block in self.blocks:
            values = torch.relu(block(values))
        return self.head(values.mean((2, 3)))


class Ear(nn.Module):
    """Of sounds, as wav2vec 2.0: filters of 10 and 3 samples with steps of 5 and 2, [batch, feature, time]."""

    def __init__(self, padding: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv1d(1, 3, 10, 5, padding)
        self.second = nn.Conv1d(3, 4, 3, 2, padding)

    def forward(self, sounds: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(sounds[:, None])))


class Loudness(nn.Module):
    """Of sounds, a number every 10 samples: how loud the 10 are. [batch, time, 1]."""

    def forward(self, sounds: torch.Tensor) -> torch.Tensor:
        whole = sounds[:, : sounds.shape[1] // 10 * 10]
        return whole.reshape(len(sounds), -1, 10).square().mean(dim=2, keepdim=True)


class Brightness(nn.Module):
    """Of pictures, [batch, 1], and of clips as [batch, colour, time, height, width], how bright they are."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures.flatten(1).mean(dim=1, keepdim=True)


class Letters(nn.Module):
    """Of texts: how many letters, and the first."""

    def forward(self, texts: list[str]) -> torch.Tensor:
        return torch.tensor([[float(len(text)), float(ord(text[0]))] for text in texts])


class Odd(nn.Module):
    """What a network should not give."""

    def __init__(self, gives: str) -> None:
        super().__init__()
        self.gives = gives

    def forward(self, pictures: torch.Tensor) -> object:
        one = pictures.flatten(1)[:, :2]
        return {
            "one row": one[:1],
            "nan": one * torch.nan,
            "text": "a cat",
            "several": {"logits": one, "mask": one > 0},
            "nothing": one[:, :0],
        }[self.gives]

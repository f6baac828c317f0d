"""Exports the module of jobs/digits-torchscript.toml: `python digits.py digits.pt`, with torch 2.x."""

import sys

import torch
from torch import nn


class Digits(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(32 * 2 * 2, 10)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        image = pixels.view(-1, 1, 8, 8)
        return self.head(self.dropout(self.features(image).flatten(1)))


if __name__ == "__main__":
    torch.manual_seed(1)
    torch.jit.script(Digits()).save(sys.argv[1])

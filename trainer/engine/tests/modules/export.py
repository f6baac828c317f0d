"""Exports the modules of the engine's tests: `python export.py FOLDER`, with the torch that libtorch is of."""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Plain(nn.Module):
    """The built-in mlp of the fixture `mlp`, without dropout."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(64, 48), nn.Linear(48, 20), nn.Linear(20, 4)])

    def forward(self, x: Tensor) -> Tensor:
        last = len(self.layers) - 1
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i < last:
                x = F.relu(x)
        return x


class Conv(nn.Module):
    """BatchNorm, dropout, a constant buffer, one that is replaced, a frozen parameter and an unused one."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 7, 3, padding=1)
        self.norm = nn.BatchNorm2d(7)
        self.dropout = nn.Dropout(0.25)
        self.head = nn.Linear(7 * 4 * 4, 4)
        self.unused = nn.Parameter(torch.ones(3))
        self.frozen = nn.Parameter(torch.full((4,), 0.5), requires_grad=False)
        self.register_buffer("order", torch.arange(4))
        self.register_buffer("average", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.norm(self.conv(x.view(-1, 1, 8, 8)))), 2).flatten(1)
        logits = self.head(self.dropout(x))[:, self.order] + self.frozen
        if self.training:
            self.average = 0.9 * self.average + 0.1 * logits.detach().mean(0)
        return logits


class Text(nn.Module):
    """A byte-level model with its own embedding and a recurrent layer."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(256, 24)
        self.gru = nn.GRU(24, 24, batch_first=True)
        self.head = nn.Linear(24, 256)

    def forward(self, tokens: Tensor) -> Tensor:
        mixed, _ = self.gru(self.tokens(tokens))
        return self.head(F.dropout(mixed, 0.1, self.training))


class Number(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).squeeze(1)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.second = nn.Linear(64, 64)
        self.second.weight = self.first.weight
        self.head = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x)))


class Random(nn.Module):
    """Draws in evaluation as well."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.head(x), 0.5, True)


class Restless(nn.Module):
    """Remembers the passes in what is no buffer."""

    passes: int

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 4)
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return self.head(x) * float(self.passes)


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(x), x


class Counted(nn.Module):
    """Counts samples, not passes."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 4)
        self.register_buffer("seen", torch.zeros(1, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        self.seen.add_(x.size(0))
        return self.head(x)


class Fixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x).view(13, 4)


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(64)
        self.head = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(x))


LIBRARY = torch.library.Library("tests", "DEF")
LIBRARY.define("twice(Tensor x) -> Tensor")
LIBRARY.impl("twice", lambda x: 2 * x, "CPU")


class Custom(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.tests.twice(self.head(x))


def main(folder: Path) -> None:
    torch.manual_seed(1)
    script = torch.jit.script
    no_gradient = Plain()
    no_gradient.requires_grad_(False)
    modules = {
        "plain": script(Plain()),
        "conv": script(Conv()),
        "text": script(Text()),
        "number": script(Number()),
        "tied": script(Tied()),
        "random": script(Random()),
        "restless": script(Restless()),
        "pair": script(Pair()),
        "counted": script(Counted()),
        "custom": script(Custom()),
        "fixed": script(Fixed()),
        "frozen": torch.jit.freeze(script(Plain().eval())),
        "no-gradient": script(no_gradient),
        "double": script(Plain().double()),
        "traced": torch.jit.trace(Normed().eval(), torch.ones(13, 64)),
    }
    for name, module in modules.items():
        module.save(folder / f"{name}.pt")
    torch.save(Plain().state_dict(), folder / "state.pt")


main(Path(sys.argv[1]))

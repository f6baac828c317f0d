"""Exports the modules of the engine's tests, all or those named, with the torch that libtorch is of: `python export.py FOLDER`.
Those in /tests/modules are `momentum through quantised tenth wide --classes 10`."""

import argparse
import copy
import warnings
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


CLASSES = 4


class Momentum(nn.Module):
    """A momentum encoder that begins as a copy of the trained one: MoCo, BYOL, DINO."""

    def __init__(self):
        super().__init__()
        self.student = nn.Linear(64, CLASSES)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        if self.training:
            with torch.no_grad():
                self.teacher.weight.lerp_(self.student.weight, 0.1)
                self.teacher.bias.lerp_(self.student.bias, 0.1)
        return self.student(x) + 0.5 * self.teacher(x)


class Through(nn.Module):
    """Buffers written through `.data`, which raises no version: one of float32, one of float16, one of whole numbers."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, CLASSES)
        self.register_buffer("last", self.head.weight.detach().clone())
        self.register_buffer("coarse", self.head.bias.detach().clone().half())
        self.register_buffer("rounded", torch.zeros(CLASSES, dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        if self.training:
            self.last.data.lerp_(self.head.weight.data, 0.1)
            self.coarse.data.lerp_(self.head.bias.data.half(), 0.25)
            self.rounded.data.copy_((8 * x[:, : self.head.out_features].mean(0)).round().int())
        return self.head(x) + 0.5 * F.linear(x, self.last, self.coarse.float()) + 0.01 * self.rounded.float()


class Late(nn.Module):
    """Begins to move a buffer, and an attribute that is none, after some steps; stops counting then."""

    seen: Tensor

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, CLASSES)
        self.register_buffer("steps", torch.tensor(0, dtype=torch.int64))
        self.register_buffer("average", torch.zeros(CLASSES))
        self.register_buffer("started", torch.tensor(False))
        self.register_buffer("mask", torch.full((4, 4), float("-inf")).triu(1))
        self.seen = torch.zeros(CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        logits = self.head(x)
        if self.training:
            if int(self.steps) < 3:
                self.steps += 1
            else:
                self.started.fill_(True)
                self.average.lerp_(logits.detach().mean(0), 0.2)
            self.seen = self.seen + x[:, : self.head.out_features].mean(0)
        return logits + self.average + 0.01 * self.seen + 0.0 * self.mask.exp().sum()


class Wide(nn.Module):
    """A table that is too large to be carried unless it moves, and begins to move after some steps."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, CLASSES)
        self.register_buffer("steps", torch.tensor(0, dtype=torch.int64))
        self.register_buffer("table", torch.zeros((1 << 16) + 1, dtype=torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        if self.training:
            self.steps += 1
            if int(self.steps) > 4:
                self.table.data[0] += 1
        return self.head(x) + 0.1 * self.table[0].float()


class Clamped(nn.Module):
    """Writes to what is trained."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        if self.training:
            self.head.weight.data.clamp_(-0.05, 0.05)
        return self.head(x)


class Precise(nn.Module):
    """Moves a buffer that float32 can't hold."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, CLASSES)
        self.register_buffer("average", torch.full((CLASSES,), 0.1, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        if self.training:
            self.average.lerp_(x[:, : self.head.out_features].mean(0).double(), 0.1)
        return self.head(x) + self.average.float()


class Tenth(nn.Module):
    """Changes its result from the tenth training pass on, by what is no tensor."""

    passes: int

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, CLASSES)
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        if self.training:
            self.passes += 1
        scale = 1.0 if self.passes < 10 else 1.5
        return self.head(x) * scale


class Kept(nn.Module):
    """Keeps its last batch, small and made large, to be looked at."""

    last: Tensor
    wide: Tensor

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, CLASSES)
        self.last = torch.zeros(0)
        self.wide = torch.zeros(0)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        self.last = x
        self.wide = x.repeat(1, 300)
        return self.head(x)


class Quantised(nn.Module):
    """Quantisation-aware training. The observers of weights take shape, and those of outputs leave infinity, in a first pass."""

    def __init__(self):
        super().__init__()
        config = torch.ao.quantization.get_default_qat_qconfig("x86")
        self.first = torch.ao.nn.qat.Linear(64, 32, qconfig=config)
        self.second = torch.ao.nn.qat.Linear(32, CLASSES, qconfig=config)
        self.outputs = config.activation()

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return self.second(F.relu(self.outputs(self.first(x))))


LIBRARY = torch.library.Library("tests", "DEF")
LIBRARY.define("twice(Tensor x) -> Tensor")
LIBRARY.impl("twice", lambda x: 2 * x, "CPU")


class Custom(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.tests.twice(self.head(x))


def main(folder: Path, names: list[str]) -> None:
    warnings.filterwarnings("ignore")
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
        "momentum": script(Momentum()),
        "through": script(Through()),
        "late": script(Late()),
        "wide": script(Wide()),
        "clamped": script(Clamped()),
        "precise": script(Precise()),
        "tenth": script(Tenth()),
        "kept": script(Kept()),
        "quantised": script(Quantised().train()),
    }
    for name, module in modules.items():
        if not names or name in names:
            module.save(folder / f"{name}.pt")
    if not names or "state" in names:
        torch.save(Plain().state_dict(), folder / "state.pt")


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder", type=Path)
parser.add_argument("names", nargs="*")
parser.add_argument("--classes", type=int, default=CLASSES)
arguments = parser.parse_args()
CLASSES = arguments.classes
main(arguments.folder, arguments.names)

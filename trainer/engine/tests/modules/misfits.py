"""Exports modules and other files that users take for one, each with something that a job must refuse or take:
`python misfits.py FOLDER`, with the torch that libtorch is of."""

import json
import struct
import sys
import zipfile
from pathlib import Path
from typing import Optional

import torch
from torch import Tensor, nn


class Head(nn.Module):
    """One layer over the 64 features of the tests' data, for their four classes."""

    def __init__(self, inputs: int = 64, outputs: int = 4):
        super().__init__()
        self.head = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


class TwoArguments(Head):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.head(x * mask)


class OptionalArgument(Head):
    def forward(self, x: Tensor, mask: Optional[Tensor] = None) -> Tensor:
        if mask is not None:
            x = x * mask
        return self.head(x)


class NoArgument(Head):
    def forward(self) -> Tensor:
        return self.head(torch.zeros(13, 64))


class ListArgument(Head):
    def forward(self, xs: list[Tensor]) -> Tensor:
        return self.head(xs[0])


class NoForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 4)

    @torch.jit.export
    def predict(self, x: Tensor) -> Tensor:
        return self.head(x)


class Dictionary(Head):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.head(x)}


class Mean(Head):
    """Gives a tensor without dimensions."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x).mean()


class Float(Head):
    """Gives a number of Python's."""

    def forward(self, x: Tensor) -> float:
        return self.head(x).mean().item()


class Double(Head):
    """Float32 inside, float64 in the end."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x).double()


class Image(nn.Module):
    """Takes images and does not say so of flat samples."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).amax((2, 3)))


class View(Head):
    """Takes samples for images of 28x28."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.view(-1, 1, 28, 28).flatten(1))


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(32)
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(x))


class Shifted(Head):
    """Adds a parameter of another width."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(32))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x + self.shift)


class Batched(nn.Module):
    """BatchNorm: it trains on more than one sample only."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(64)
        self.head = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(x))


class Words(nn.Module):
    """A text's model; `rows` tokens are known."""

    def __init__(self, rows: int, sparse: bool):
        super().__init__()
        self.tokens = nn.Embedding(rows, 8, sparse=sparse)
        self.head = nn.Linear(8, 256)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.tokens(tokens))


class InPlace(Head):
    """Overwrites what the backward pass needs."""

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.sigmoid(self.head(x))
        logits = hidden * hidden
        hidden += 1.0
        return logits + hidden


class Overwritten(Head):
    """Writes to a parameter."""

    def forward(self, x: Tensor) -> Tensor:
        self.head.weight.mul_(0.5)
        return self.head(x)


class Detached(Head):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(x).detach()


class OnCuda(Head):
    """Names a device."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x) + torch.zeros(4, device="cuda")


class Late(Head):
    """Raises in its hundredth pass."""

    passes: int

    def __init__(self):
        super().__init__()
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        if self.passes > 100:
            raise ValueError("a hundred is enough")
        return self.head(x)


class Huge(Head):
    """Asks for a petabyte."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x) + torch.zeros(1 << 48, 4).sum()


class Raises(Head):
    """Looks at its input itself."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4:
            raise ValueError("this model is for images")
        return self.head(x)


class Bare(nn.Module):
    """A module of no other modules."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 64))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T


def export(module: nn.Module, path: Path) -> None:
    """What torch.export writes, without where its source lay."""
    program = torch.export.export(module, (torch.zeros(2, 64),))
    for node in program.graph.nodes:
        for key in ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn"):
            node.meta.pop(key, None)
    torch.export.save(program, path)


def without_sources(path: Path) -> None:
    """Writes an archive anew without what says where its source lay."""
    with zipfile.ZipFile(path) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            if not name.endswith(".debug_pkl"):
                archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)


def safetensors(path: Path) -> None:
    """A file of one tensor, in the format of the safetensors package."""
    header = json.dumps({"head.bias": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))


def main(folder: Path) -> None:
    torch.manual_seed(1)
    modules = {
        "two-arguments": TwoArguments(),
        "optional-argument": OptionalArgument(),
        "no-argument": NoArgument(),
        "list-argument": ListArgument(),
        "no-forward": NoForward(),
        "dictionary": Dictionary(),
        "mean": Mean(),
        "float": Float(),
        "double-output": Double(),
        "seven-classes": Head(outputs=7),
        "few-features": Head(inputs=16),
        "image": Image(),
        "view": View(),
        "layer-norm": Normed(),
        "shifted": Shifted(),
        "batch-norm": Batched(),
        "sparse": Words(256, sparse=True),
        "few-tokens": Words(64, sparse=False),
        "in-place": InPlace(),
        "overwritten": Overwritten(),
        "detached": Detached(),
        "on-cuda": OnCuda(),
        "raises": Raises(),
        "late": Late(),
        "huge": Huge(),
    }
    for name, module in modules.items():
        path = folder / f"{name}.pt"
        torch.jit.script(module).save(path)
        without_sources(path)
    head = Head()
    torch.save(head, folder / "whole-module.pt")
    torch.save({"model": head.state_dict(), "epoch": 3}, folder / "checkpoint.pt")
    torch.save(head.state_dict(), folder / "old-state.pt", _use_new_zipfile_serialization=False)
    torch.save(Bare(), folder / "old-module.pt", _use_new_zipfile_serialization=False)
    export(head, folder / "exported.pt2")
    safetensors(folder / "head.safetensors")


main(Path(sys.argv[1]))

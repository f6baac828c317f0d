"""Training the jobs of xtask/benches/jobs as PyTorch's own means do: DDP on Gloo, or a plain loop at one worker.

Each turn is a count of seconds to train for, and answers with the steps made in one. The batch is made once: reading
data costs these nothing. AdamW is the fused one, the fastest that PyTorch has on a CPU.
"""

import math
import sys
import time

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from turns import WORLD, agree, meet, tell, turns

VOCABULARY, WIDTH, LAYERS, HEADS, CONTEXT = 256, 128, 4, 4, 64
WARM_UP_S = 2.0


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.feed = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x):
        samples, tokens, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(samples, tokens, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(*qkv, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(samples, tokens, width))
        return x + self.feed(self.norm2(x))


class Gpt(nn.Module):
    """The embedding is also the head."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Parameter(torch.randn(CONTEXT, WIDTH) * 0.02)
        self.blocks = nn.Sequential(*[Block() for _ in range(LAYERS)])
        self.norm = nn.LayerNorm(WIDTH)
        nn.init.normal_(self.tokens.weight, std=0.02)

    def forward(self, x):
        return nn.functional.linear(self.norm(self.blocks(self.tokens(x) + self.positions)), self.tokens.weight)


def mlp():
    rows = 256 // WORLD
    network = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    return network, torch.randn(rows, 64), torch.randint(10, (rows,))


def gpt():
    rows = 32 // WORLD
    return Gpt(), torch.randint(VOCABULARY, (rows, CONTEXT)), torch.randint(VOCABULARY, (rows, CONTEXT))


meet()
network, inputs, targets = {"mlp": mlp, "gpt": gpt}[sys.argv[1]]()
network = DistributedDataParallel(network) if WORLD > 1 else network
optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.01, fused=True)


def train(steps):
    began = time.perf_counter()
    for _ in range(steps):
        optimizer.zero_grad()
        outputs = network(inputs)
        nn.functional.cross_entropy(outputs.view(-1, outputs.shape[-1]), targets.view(-1)).backward()
        optimizer.step()
    return steps / (time.perf_counter() - began)


for seconds in turns():
    # All ranks make as many steps, which is rank 0's guess of how many fill the time.
    steps_per_s = train(3)
    for window_s in (WARM_UP_S / 4, WARM_UP_S, seconds):
        steps_per_s = train(int(agree(math.ceil(steps_per_s * window_s))))
    tell(steps_per_s=steps_per_s, parameters=sum(p.numel() for p in network.parameters()))

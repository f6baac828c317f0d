"""What the ranks of one process group have in common: they meet, and take turns that rank 0 is asked for."""

import json
import math
import os
import sys

import torch
import torch.distributed as dist

RANK = int(os.environ["RANK"])
WORLD = int(os.environ["WORLD_SIZE"])


def meet():
    torch.set_num_threads(1)
    torch.manual_seed(7)
    if WORLD > 1:
        dist.init_process_group("gloo")


def agree(number):
    """Rank 0's number, for all."""
    told = torch.tensor([number], dtype=torch.float64)
    if WORLD > 1:
        dist.broadcast(told, 0)
    return told.item()


def turns():
    """The number on each line that rank 0 reads, for all ranks, until its input ends."""
    while True:
        line = sys.stdin.readline() if RANK == 0 else ""
        number = agree(float(line) if line else math.nan)
        if math.isnan(number):
            return
        yield number


def tell(**figures):
    if RANK == 0:
        print(json.dumps(figures), flush=True)

"""A rank of Gloo's all-reduce. Each turn is a size in MiB, and answers with the median time of one exchange."""

import statistics
import time

import torch
import torch.distributed as dist
from turns import WORLD, meet, tell, turns

WARM_UP = 3
MIB_MOVED = 200
EXCHANGES_MIN, EXCHANGES_MAX = 5, 200


def exchange(vector):
    began = time.perf_counter()
    dist.all_reduce(vector)
    return time.perf_counter() - began


meet()
for mib in turns():
    vector = torch.zeros(int(mib * 2**20) // 4)
    for _ in range(WARM_UP):
        vector.fill_(1)
        exchange(vector)
        assert vector.min() == vector.max() == WORLD, "a wrong sum"
    # As it is added to itself over and over; what is exchanged makes no difference to the time.
    vector.zero_()
    count = min(max(int(MIB_MOVED / mib), EXCHANGES_MIN), EXCHANGES_MAX)
    tell(ms=statistics.median(exchange(vector) for _ in range(count)) * 1e3)

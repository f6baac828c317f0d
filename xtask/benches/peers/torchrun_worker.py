"""One torchrun worker (gloo, CPU). It saves after each step, so that a restart repeats one at the most."""

import os
import time
from datetime import timedelta

import torch
import torch.distributed as dist
from model import PAUSE_BETWEEN_STEPS_S, loss, network, tell

path = os.environ["CHECKPOINT"]
# A restarted group now and then waits for addresses of the one before it; with this it fails and starts once more.
dist.init_process_group("gloo", timeout=timedelta(seconds=10))
rank, world = dist.get_rank(), dist.get_world_size()
net = network()
optimizer = torch.optim.AdamW(net.parameters())
step = 0
if os.path.exists(path):
    saved = torch.load(path, weights_only=True)
    net.load_state_dict(saved["net"])
    optimizer.load_state_dict(saved["optimizer"])
    step = saved["step"]
parallel = torch.nn.parallel.DistributedDataParallel(net)
while True:
    optimizer.zero_grad()
    loss(parallel, world).backward()
    optimizer.step()
    step += 1
    if rank == 0:
        state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
        torch.save(state, path + ".part")
        os.replace(path + ".part", path)
    tell(rank, step, world)
    time.sleep(PAUSE_BETWEEN_STEPS_S)

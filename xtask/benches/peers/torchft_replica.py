"""One torchft replica group of one worker (gloo, CPU). A step counts once it is committed."""

import os
import time
from datetime import timedelta

import torch
from model import PAUSE_BETWEEN_STEPS_S, loss, network, tell
from torch.distributed import TCPStore
from torchft import DistributedDataParallel, Manager, Optimizer, ProcessGroupGloo

group = int(os.environ["REPLICA_GROUP_ID"])
net = network()
adamw = torch.optim.AdamW(net.parameters())
store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def save():
    return {"net": net.state_dict(), "optimizer": adamw.state_dict()}


def load(state):
    net.load_state_dict(state["net"])
    adamw.load_state_dict(state["optimizer"])


manager = Manager(
    pg=ProcessGroupGloo(timeout=timedelta(seconds=5)),
    load_state_dict=load,
    state_dict=save,
    min_replica_size=1,
    use_async_quorum=True,
    replica_id=f"group{group}",
    hostname="127.0.0.1",
    store_addr="127.0.0.1",
    store_port=store.port,
    rank=0,
    world_size=1,
)
parallel = DistributedDataParallel(manager, net)
optimizer = Optimizer(manager, adamw)
while True:
    before = manager.current_step()
    optimizer.zero_grad()
    loss(parallel, 2).backward()
    optimizer.step()
    if manager.current_step() > before:
        tell(group, manager.current_step(), manager.num_participants())
    time.sleep(PAUSE_BETWEEN_STEPS_S)

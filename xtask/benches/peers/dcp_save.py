"""torch.distributed.checkpoint's async_save of a state of float32 tensors to a local folder, once for each turn.

The stall is how long the call takes, which copies the state; it is saved when the future is done. Memory is what the
process had resident at most meanwhile beyond the state itself."""

import os
import shutil
import sys
import time

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from turns import meet, tell, turns

BYTES, FOLDER = int(sys.argv[1]), sys.argv[2]
TENSORS = 60


def resident_kb(line):
    with open("/proc/self/status") as status:
        return int(next(text for text in status if text.startswith(line)).split()[1])


def save(state):
    began = time.perf_counter()
    saved = dcp.async_save(state, checkpoint_id=FOLDER)
    stall = time.perf_counter() - began
    saved.result()
    return stall, time.perf_counter() - began


meet()
dist.init_process_group("gloo")
each = BYTES // 4 // TENSORS // 16
state = {f"layers.{i}.weight": torch.arange(each * 16, dtype=torch.float32).view(each, 16) for i in range(TENSORS)}
before_kb = resident_kb("VmRSS:")
save(state)
for _ in turns():
    for tensor in state.values():
        tensor += 1
    shutil.rmtree(FOLDER, ignore_errors=True)
    os.makedirs(FOLDER)
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")
    stall, total = save(state)
    tell(stall_ms=stall * 1e3, save_s=total, memory_mib=(resident_kb("VmHWM:") - before_kb) / 1024)

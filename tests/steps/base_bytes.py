"""python -m torch.distributed.run --nproc-per-node 2 -m tests.steps.base_bytes BASE: what of a base each process holds.

A line of JSON from each: bytes before it is spread, after, while a row's gradients are known, and rank.
"""

import json
import sys
from pathlib import Path

import torch
from torch import distributed

from tests.testkit.training import CPU, adapted, fact_lessons
from thaud.steps.train.model import make_row, row_loss
from thaud.steps.train.parallel import leave
from thaud.steps.train.sharding import resident_bytes, shard


def main(base: Path) -> None:
    """Spread the base, train one row, say what is held."""
    distributed.init_process_group("gloo")
    torch.set_num_threads(1)
    model = adapted(base)
    whole = resident_bytes(model)
    shard(model, CPU, distributed.get_world_size())
    spread = resident_bytes(model)
    torch.autograd.backward(row_loss(model, make_row(fact_lessons(base), 512, torch.float32, CPU)))
    said = {"rank": distributed.get_rank(), "whole": whole, "spread": spread, "after_a_row": resident_bytes(model)}
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()
    distributed.barrier()
    leave(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Sums over tensors that processes share: of the whole tensor, or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import steprule.torch as door
from steprule.errors import StructureError
from tests.cases import MATRICES
from tests.doors.torch.test_guards import run_two, tensor_of

SUMMED = ("lamb", "lars", "mars", "novograd", "prodigy")
REFUSED = dict.fromkeys(MATRICES, "is a DTensor, which processes")


def _shared(rank: int, port: int, results: Any) -> None:
    import torch.distributed as distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    ends, said = [], {}
    for name in (*SUMMED, *REFUSED):
        param = distribute_tensor(tensor_of(1, (6, 4)), mesh, [Shard(0)])
        optimizer = door.Optimizer([param], name)
        for t in range(3):
            param.grad = distribute_tensor(tensor_of(2 + t, (6, 4)), mesh, [Shard(0)])
            try:
                optimizer.step()
            except StructureError as error:
                said[name] = str(error)
        ends.append(param.full_tensor().tolist())
    results.put((rank, ends, said))
    distributed.barrier()  # who leaves while the other still reads ends it
    distributed.destroy_process_group()


@pytest.mark.slow
def test_sums_are_over_the_whole_of_what_is_shared() -> None:
    for _, ends, said in run_two(_shared):
        for name, end in zip((*SUMMED, *REFUSED), ends, strict=True):
            param = tensor_of(1, (6, 4))
            optimizer = door.Optimizer([param], name)
            for t in range(3 if name in SUMMED else 0):
                param.grad = tensor_of(2 + t, (6, 4))
                optimizer.step()
            np.testing.assert_allclose(end, param.numpy(), rtol=1e-12)
        assert said.keys() == REFUSED.keys()
        for name, words in REFUSED.items():
            assert words in said[name]

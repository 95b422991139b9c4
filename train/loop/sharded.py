"""Tensors that may be spread over the processes of a run (FSDP), and the whole ones they stand for.

All processes must call these together, in the same order.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor


def spread_again(module: nn.Module) -> None:
    """Put every part back on its process: a forward pass leaves the outermost weights together.

    Until then the module shows those, and not the ones that the optimiser knows.
    """
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def is_spread(tensor: Tensor) -> bool:
    """Whether this process holds a part only."""
    return isinstance(tensor, DTensor)


def whole(tensor: Tensor) -> Tensor:
    """Put a tensor together; one that is whole is given as it is."""
    if not isinstance(tensor, DTensor):
        return tensor
    found: Tensor = tensor.full_tensor()
    return found


def spread_like(given: Tensor, like: Tensor) -> Tensor:
    """Spread a whole tensor, which every process has, as `like` is; or put it on its device."""
    if not isinstance(like, DTensor):
        return given.to(like.device)
    mesh = like.device_mesh
    placed = given.to(mesh.device_type)
    return distribute_tensor(placed, mesh, like.placements, src_data_rank=None)

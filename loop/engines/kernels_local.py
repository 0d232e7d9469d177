"""vLLM's own normalisation kernels on a CPU, where it leaves them unused.

Its CPU build holds `rms_norm` and `fused_add_rms_norm` in C++, but dispatches to them on GPUs
alone: on x86 it counts on torch.compile to fuse seven operations of PyTorch, and compiling takes a
minute at every start. Without it those operations are a fifth of a step of SmolLM2 (vLLM 0.31).
In 16 bits the kernels round the sum before its norm is taken, as transformers and vLLM's CUDA
kernels do and vLLM's PyTorch code does not (docs/decisions/046-kernels-on-a-cpu-and-medians.md).
"""

from __future__ import annotations

from functools import cache

# Annotations are read by torch when an implementation is registered: no import for types alone.
import torch

PROVIDER = "vllm_c_cpu"
# Elements of a vector register: the kernels refuse hidden sizes that are no multiple of it.
WIDTH = 16

# EngineArgs: an op's implementations, the first one that takes the arguments; vLLM adds its own.
PRIORITY = {"rms_norm": [PROVIDER], "fused_add_rms_norm": [PROVIDER]}


def install() -> None:
    """Register the kernels with vLLM. Call it before the engine is made, on a CPU."""
    from vllm import ir
    from vllm.platforms import current_platform

    # Once: a process may start several engines.
    if PROVIDER in ir.ops.rms_norm.impls:
        return
    current_platform.import_kernels()
    ir.ops.rms_norm.register_impl(PROVIDER, supports_args=takes_one)(rms_norm)
    ir.ops.fused_add_rms_norm.register_impl(PROVIDER, supports_args=takes_two, inplace=True)(
        fused_add_rms_norm
    )


def takes_one(
    x: torch.Tensor, weight: torch.Tensor | None, epsilon: float, variance_size: int | None = None
) -> bool:
    """Whether the kernel computes what vLLM's PyTorch code does, for these arguments."""
    return (
        variance_size is None
        and weight is not None
        and weight.dtype == x.dtype
        and x.is_contiguous()
        and x.shape[-1] % WIDTH == 0
        and (x.dtype != torch.bfloat16 or rounds_to_nearest())
    )


@cache
def rounds_to_nearest() -> bool:
    """Whether this processor's build rounds to the nearest bfloat16.

    Those for processors without bfloat16 units cut off instead: every sum comes out too small.
    """
    x = torch.ones(1, WIDTH, dtype=torch.bfloat16)
    # 1 + 3/4 of the distance to the next number.
    x_residual = torch.full_like(x, 1.5 * 2**-8)
    fused_add_rms_norm(x, x_residual, torch.ones(WIDTH, dtype=torch.bfloat16), 1e-5)
    return bool((x_residual > 1).all())


def takes_two(
    x: torch.Tensor,
    x_residual: torch.Tensor,
    weight: torch.Tensor | None,
    epsilon: float,
    variance_size: int | None = None,
) -> bool:
    """The same of the operation that adds first."""
    return x_residual.is_contiguous() and takes_one(x, weight, epsilon, variance_size)


def rms_norm(
    x: torch.Tensor, weight: torch.Tensor | None, epsilon: float, variance_size: int | None = None
) -> torch.Tensor:
    """Rows of `x` over their root mean square, times `weight`."""
    out = torch.empty_like(x)
    torch.ops._C.rms_norm(out, x, weight, epsilon)
    return out


def fused_add_rms_norm(
    x: torch.Tensor,
    x_residual: torch.Tensor,
    weight: torch.Tensor | None,
    epsilon: float,
    variance_size: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The norm of the sum, and the sum; both in the place of what was given."""
    torch.ops._C.fused_add_rms_norm(x, x_residual, weight, epsilon)
    return x, x_residual

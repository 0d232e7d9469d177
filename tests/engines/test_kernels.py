"""vLLM's normalisation kernels on the CPU: what its PyTorch code computes, and what engines use.

All slow: torch and vLLM come along.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ouroloop import evals
from ouroloop.loop.engines import children

torch = pytest.importorskip("torch")

from ouroloop.loop.engines import kernels_local  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ops():
    """vLLM's operations with our kernels among their implementations."""
    if not pytest.importorskip("vllm.platforms").current_platform.is_cpu():
        pytest.skip("vLLM's build for another device has its own choice of kernels")
    kernels_local.install()
    return pytest.importorskip("vllm.ir").ops


def rows(dtype, size=576, num=7):
    generator = torch.Generator().manual_seed(size)
    draw = [torch.randn(num, size, generator=generator) * 3 for _ in range(2)]
    weight = torch.rand(size, generator=generator) + 0.5
    return *(x.to(dtype) for x in draw), weight.to(dtype)


def norm(x, weight):
    """What is computed, in float64: no rounding worth the name."""
    x = x.double()
    return x * torch.rsqrt(x.pow(2).mean(dim=-1, keepdim=True) + 1e-5) * weight.double()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_the_kernels_are_as_exact_as_the_native_code(ops, dtype):
    x, residual, weight = rows(dtype)
    if not ops.rms_norm.impls[kernels_local.PROVIDER].supports_args(x, weight, 1e-5):
        pytest.skip("this processor's kernels cut bfloat16 off, and are not used")

    def largest(found, truth):
        return ((found.double() - truth).abs() / truth.abs().clamp(min=1e-3)).max().item()

    def errors(provider):
        one = ops.rms_norm.impls[provider].impl_fn(x, weight, 1e-5)
        # In their place: what is given is overwritten.
        two, total = ops.fused_add_rms_norm.impls[provider].impl_fn(
            x.clone(), residual.clone(), weight, 1e-5
        )
        exact = x.double() + residual.double()
        return (
            largest(one, norm(x, weight)),
            largest(two, norm(exact, weight)),
            largest(total, exact),
        )

    native, kernel = errors("native"), errors(kernels_local.PROVIDER)
    # The native code rounds before the weights, too; in float32 only the order of sums differs.
    assert all(k <= 2 * n for k, n in zip(kernel, native, strict=True)), (kernel, native)
    assert max(kernel) < 3 * torch.finfo(dtype).eps


def test_what_the_kernels_do_not_compute_is_left_to_vllm(ops):
    takes = ops.fused_add_rms_norm.impls[kernels_local.PROVIDER].supports_args
    x, residual, weight = rows(torch.float32)
    assert takes(x, residual, weight, 1e-5)
    assert not takes(x, residual, None, 1e-5)
    assert not takes(x, residual, weight.half(), 1e-5)
    assert not takes(x, residual, weight, 1e-5, 288)
    assert not takes(x[:, ::2], residual[:, ::2], weight[::2], 1e-5)
    assert not takes(x, residual.T.contiguous().T, weight, 1e-5)
    assert not takes(*(t[..., :20].contiguous() for t in (x, residual, weight)), 1e-5)


@pytest.mark.parametrize("rounds", [True, False])
def test_kernels_that_cut_bfloat16_off_get_none(ops, monkeypatch, rounds):
    monkeypatch.setattr(kernels_local, "rounds_to_nearest", lambda: rounds)
    takes = ops.fused_add_rms_norm.impls[kernels_local.PROVIDER].supports_args
    assert takes(*rows(torch.bfloat16), 1e-5) == rounds
    assert takes(*rows(torch.float32), 1e-5) and takes(*rows(torch.float16), 1e-5)


@pytest.mark.parametrize(("build", "rounds"), [("_C", True), ("_C_AVX2", False)])
def test_whether_a_build_rounds_is_found_out_by_asking_it(ops, build, rounds):
    """The two ends of what a wheel of vLLM's CPU build holds; a processor gets one of them."""
    path = Path(pytest.importorskip("vllm").__file__).with_name(f"{build}.abi3.so")
    if not path.exists():
        pytest.skip("the builds of x86")
    if rounds and not torch.cpu._is_avx512_bf16_supported():
        pytest.skip("this processor cannot run the build for bfloat16 units")
    code = (
        "import sys, torch; torch.ops.load_library(sys.argv[1]);"
        "from ouroloop.loop.engines.kernels_local import rounds_to_nearest;"
        "print(rounds_to_nearest())"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == str(rounds)


def test_a_second_engine_of_a_process_registers_nothing_twice(ops):
    before = dict(ops.rms_norm.impls)
    kernels_local.install()
    assert ops.rms_norm.impls == before


def test_an_engine_uses_them(ops):
    """In a process of its own, as engines run; what is printed is vLLM's own choice."""
    world = Path(evals.__file__).parent / "worlds" / "arithmetic" / "base"
    config = {"max_model_len": 128, "max_num_seqs": 4, "kv_cache_memory_bytes": 1 << 26}
    code = (
        "import json, sys; from pathlib import Path; from vllm import ir;"
        "from ouroloop.loop.engines.vllm_local import VllmBackend;"
        "backend = VllmBackend(json.loads(sys.argv[1])); backend.load(Path(sys.argv[2]));"
        "print([op.get_priority()[0] for op in (ir.ops.rms_norm, ir.ops.fused_add_rms_norm)])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, json.dumps(config), str(world)],
        env=children.environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert str([kernels_local.PROVIDER] * 2) in out.stdout

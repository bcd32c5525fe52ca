"""Chooses the number format that layers compute in: --precision becomes a Keras dtype policy and a reason."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from tfrecords.errors import InputError

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
_BFLOAT16_CAPABILITY = (8, 0)  # Ampere: first with bfloat16 tensor cores
_FLOAT16_CAPABILITY = (7, 0)  # Volta: first with float16 tensor cores
_BFLOAT16_CPU_FLAGS = frozenset({"amx_bf16", "avx512_bf16", "avx_ne_convert", "bf16"})  # "bf16": Arm


@dataclass(frozen=True)
class Precision:
    """A Keras dtype policy, and why it was chosen."""

    policy: str
    reason: str


def choose_precision(name: str, capabilities: list[tuple[int, int]], cpu_flags: frozenset[str]) -> Precision:
    """Returns the policy for a --precision.

    Args:
        name: "auto", "float32", "bfloat16" or "float16".
        capabilities: compute capability of each GPU in use; empty on a CPU.
        cpu_flags: instruction sets of the CPU, as Linux names them.

    Raises:
        InputError: the name is unknown.
    """
    if name != "auto":
        if name not in POLICIES:
            raise InputError(f"--precision={name}: must be auto or one of {', '.join(POLICIES)}")
        return Precision(POLICIES[name], "as asked for")
    if capabilities:
        least = min(capabilities)
        has = f"GPU of compute capability {least[0]}.{least[1]}"
        if least >= _BFLOAT16_CAPABILITY:
            return Precision("mixed_bfloat16", f"{has} has bfloat16")
        if least >= _FLOAT16_CAPABILITY:
            return Precision("mixed_float16", f"{has} has float16, not bfloat16; the loss is scaled")
        return Precision("float32", f"{has} has no fast 16-bit arithmetic")
    if found := sorted(_BFLOAT16_CPU_FLAGS & cpu_flags):
        return Precision("mixed_bfloat16", f"the CPU has {', '.join(found)}")
    return Precision("float32", "the CPU has no bfloat16 instructions")


def gpu_capabilities() -> list[tuple[int, int]]:
    """Returns the compute capability of each visible GPU; (0, 0) if it is unknown."""
    return [
        tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
        for gpu in tf.config.get_visible_devices("GPU")
    ]


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Returns the instruction sets of the CPU, as Linux names them; empty on systems without the file."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return frozenset()
    named = [line.split(":", 1)[1].split() for line in lines if line.startswith(("flags", "Features"))]
    return frozenset(named[0]) if named else frozenset()


def agreed_precision(
    asked: str, before: str, add: Callable[[Sequence[int]], list[int]], *, chief: bool
) -> Precision:
    """Returns the precision, the same on all workers; a run keeps that of its first start.

    Args:
        asked: value of --precision.
        before: Keras dtype policy of the run's first start; "": this is the first, or it is not recorded.
        add: returns the sums over the workers; see `sum_over_workers`.
        chief: whether this worker is the chief, whose hardware decides.
    """
    chosen = choose_precision(asked, gpu_capabilities(), cpu_flags())
    if asked != "auto":
        return chosen
    if before:
        return Precision(before, "chosen at the first start of this run")
    policies = list(POLICIES.values())
    (of_chief,) = add([policies.index(chosen.policy) * chief])
    if policies[of_chief] == chosen.policy:
        return chosen
    return Precision(policies[of_chief], "as the chief's hardware has it")

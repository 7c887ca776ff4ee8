"""What one device of a kind can do at best: the small table that times and shares of peaks are reckoned from."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

from flaxtl.errors import ConfigError, listed
from flaxtl.train import machine

GIB, GB, TERA = 2**30, 10**9, 10**12


@dataclasses.dataclass(frozen=True)
class Device:
    """One device.

    Attributes:
        name: as a topology names it.
        kind: what its name begins with or holds in JAX's `device_kind`.
        memory: bytes.
        flops: of float32 matrix products a second, as XLA runs them by default: in one bfloat16 pass on TPU, in TF32 on
            GPU, dense.
        bandwidth: of its memory, bytes a second.
        link: to the other devices, both ways together, bytes a second.
        source: where the figures are from.
    """

    name: str
    kind: str
    memory: float
    flops: float
    bandwidth: float
    link: float
    source: str


_CLOUD = "https://docs.cloud.google.com/tpu/docs/"
_NVIDIA = "https://www.nvidia.com/en-us/data-center/"
DEVICES = (
    Device("v5e", "TPU v5 lite", 16 * GB, 197 * TERA, 819 * GB, 400 * GB, _CLOUD + "v5e"),
    Device("v5p", "TPU v5p", 95 * GB, 459 * TERA, 2765 * GB, 1200 * GB, _CLOUD + "v5p"),
    Device("v6e", "TPU v6 lite", 32 * GB, 918 * TERA, 1638 * GB, 800 * GB, _CLOUD + "v6e"),
    Device("a100", "A100", 80 * GB, 156 * TERA, 2039 * GB, 600 * GB, _NVIDIA + "a100/ (SXM, 80 GB)"),
    Device("h100", "H100", 80 * GB, 494 * TERA, 3350 * GB, 900 * GB, _NVIDIA + "h100/ (SXM)"),
    Device("h200", "H200", 141 * GB, 494 * TERA, 4800 * GB, 900 * GB, _NVIDIA + "h200/ (SXM)"),
)
GENERIC_GPU = "h100"


def by_kind(kind: str) -> Device | None:
    """Returns the device of JAX's name for it, or None where the table has none.

    Example:
        >>> by_kind('NVIDIA H100 80GB HBM3').name
        'h100'
    """
    return next((device for device in DEVICES if device.kind.lower() in kind.lower()), None)


def peak_of(devices: Sequence[Any]) -> float | None:
    """Returns the floating-point operations a second that devices of JAX can do together; None where one is not known.

    Example:
        >>> import jax
        >>> peak_of(jax.devices('cpu')) is None
        True
    """
    known = [by_kind(device.device_kind) for device in devices]
    return None if None in known else sum(device.flops for device in known if device is not None)


@dataclasses.dataclass(frozen=True)
class Topology:
    """Devices of one kind that train together.

    Attributes:
        name: as it was given, such as v5e:16x16.
        platform: "cpu", "gpu" or "tpu".
        count: of devices.
        device: what one of them can do; None for CPUs, of which there is no common figure.
        shape: of the slice, such as 16x16, or the number.
    """

    name: str
    platform: str
    count: int
    device: Device | None
    shape: str

    @classmethod
    def of(cls, name: str) -> Topology:
        """Reads a topology: cpu:8, gpu:8 (a GPU of the table by its name likewise), or a TPU slice such as v5e:16x16.

        Raises:
            ConfigError: it is none of these.

        Example:
            >>> Topology.of('v5e:4x4').count, Topology.of('gpu:8').device.name
            (16, 'h100')
        """
        found = re.fullmatch(r"(\w+):(\d+(?:x\d+)*)", name)
        known = {device.name: device for device in DEVICES}
        if found is None or found[1] not in ("cpu", "gpu", *known):
            raise ConfigError(
                f"There is no topology {name!r}; expected cpu:N, gpu:N, or one of {listed(known)} with a number or a "
                "slice, such as v5e:16x16."
            )
        kind, shape = found[1], found[2]
        count = math.prod(int(side) for side in shape.split("x"))
        if count < 1:
            raise ConfigError(f"The topology {name!r} has no device.")
        device = known.get(GENERIC_GPU if kind == "gpu" else kind)
        platform = kind if kind in ("cpu", "gpu") else "tpu" if kind.startswith("v") else "gpu"
        return cls(name, platform, count, device, shape)

    @property
    def memory(self) -> float:
        """Bytes that one device has; virtual CPU devices share the machine's."""
        if self.device is not None:
            return self.device.memory
        return machine.total() / self.count

"""What devices do in a second: peaks from their makers' data sheets, and the shares that training is taken to reach."""

import math
from dataclasses import dataclass

from babelscale.errors import InputError
from babelscale.formatting import flop_rate

# FLOPs a second of one pinned CPU thread over a whole quickstart, evaluation and compiling included, as measured for
# models of 0.1M to 0.3M parameters (docs/performance.md).
THREAD_FLOPS = 42e9
# Share of the peak by parameters below a bound, assumed and not measured: small models leave an accelerator idle.
# Populations and a tuned batch move it; `--throughput` takes the place of all of it.
ASSUMED_SHARES = ((20e6, 0.15), (50e6, 0.20), (100e6, 0.28), (math.inf, 0.35))


@dataclass(frozen=True)
class Device:
    """A device, or with `rate` something whose FLOPs a second were measured.

    Attributes:
        peak: dense bfloat16 FLOPs a second. memory: bytes; None where the machine's own memory is meant.
        source: of these figures.
        rate: FLOPs a second at every size, in place of a share of the peak.
    """

    name: str
    peak: float
    memory: float | None
    source: str
    rate: float | None = None

    def flops_per_second(self, params: float) -> float:
        """What training a model of so many parameters is taken to reach."""
        if self.rate is not None:
            return self.rate
        return self.peak * next(share for bound, share in ASSUMED_SHARES if params < bound)

    def __str__(self) -> str:
        if self.rate is not None:
            return f"{self.name} at {flop_rate(self.rate)} ({self.source})"
        low, high = ASSUMED_SHARES[0][1], ASSUMED_SHARES[-1][1]
        return (
            f"{self.name}: {flop_rate(self.peak)} at its peak ({self.source}); {100 * low:.0f} % of it for the "
            f"smallest models and {100 * high:.0f} % from {ASSUMED_SHARES[-2][0] / 1e6:.0f}M parameters on are assumed"
        )


_NVIDIA, _GOOGLE = "NVIDIA's data sheet, dense bfloat16", "Google's data sheet, bfloat16"
DEVICES = {
    device.name: device
    for device in (
        Device("cpu-thread", THREAD_FLOPS, None, "measured over a quickstart, docs/performance.md", THREAD_FLOPS),
        Device("h200", 989e12, 141e9, _NVIDIA),
        Device("h100", 989e12, 80e9, _NVIDIA),
        Device("a100", 312e12, 80e9, _NVIDIA),
        Device("tpu-v5p", 459e12, 95e9, _GOOGLE),
        Device("tpu-v5e", 197e12, 16e9, _GOOGLE),
    )
}


def by_name(name: str) -> Device:
    """A device of the table.

    Raises:
        InputError: it holds none of this name.
    """
    if name not in DEVICES:
        raise InputError(
            f"no device {name!r}", hint=f"one of {', '.join(DEVICES)}; or give the FLOPs a second with --throughput"
        )
    return DEVICES[name]

"""The least time that a layer can take on this machine, modelled: counts of the layer, measured limits of the machine.

    least = max(FLOPs / peak, weight bytes / bandwidth + other bytes / bandwidth)

Weights are read once per forward pass, and until they are needed again the whole model has passed through the caches:
their bandwidth is that of as many bytes as all weights have. Inputs and outputs of a layer were or will be used by its
neighbours: their bandwidth is that of as many bytes as the layer moves. The FLOPs of each dtype have a peak of their
own. The third limit, operators x the time of one call, is of eager execution, not of the machine; it is not in `least`.
"""

from __future__ import annotations

from dataclasses import dataclass

from labs_lib.errors import LabError
from labs_lib.inference_bench.layers import Counts, Layer
from labs_lib.roofline import Roof, roof


@dataclass(frozen=True)
class Least:
    """Seconds, modelled. The band comes from that of the measured rates: `high` belongs to their lower ends."""

    computing: float
    memory: float
    high: float  # of the larger of the two
    calling: float  # operators x the time of one call
    missing: tuple[str, ...] = ()  # dtypes without a measured peak, and operators without a formula

    @property
    def low(self) -> float:
        return max(self.computing, self.memory)

    @property
    def limit(self) -> str:
        """What takes longest: "computing", "memory" or "calls"."""
        return max((self.computing, "computing"), (self.memory, "memory"), (self.calling, "calls"))[1]


def least(layer: Layer, weights: int, roof: Roof) -> Least:
    """The least time of a layer of a model whose weights take `weights` bytes."""
    peaks = {dtype: roof.peak(dtype) for dtype in layer.flops_by_dtype}
    known = [(flops, peaks[dtype]) for dtype, flops in layer.flops_by_dtype.items() if peaks[dtype]]
    streams = [(layer.weight_bytes, roof.bandwidth(max(weights, 1)))]
    streams.append((layer.other_bytes, roof.bandwidth(max(layer.other_bytes / max(layer.calls, 1), 1))))
    work = [(sum(amount / rate.best for amount, rate in part), sum(amount / rate.low for amount, rate in part))
            for part in (known, streams)]  # fmt: skip
    return Least(
        computing=work[0][0],
        memory=work[1][0],
        high=max(work[0][1], work[1][1]),
        calling=layer.operators * roof.call_s,
        missing=tuple(sorted({dtype for dtype, peak in peaks.items() if not peak} | layer.uncounted)),
    )


def limits_for(device: str, limits: Roof | None, threads: int | None) -> Roof:
    """The limits that are given, or those of this machine for so many threads (1).

    Raises LabError where those that are given belong to another device or number of threads.
    """
    if limits is None:
        return roof(threads or 1, device)
    if limits.device != device or threads not in (None, limits.threads):
        raise LabError(
            f"These limits are of {limits.device} with {limits.threads} threads.",
            f"The model is on {device}" + (f" and is given {threads}." if threads else "."),
            "Leave limits out, or measure them with roof(threads, device).",
        )
    return limits


def least_of_model(counts: Counts, roof: Roof) -> tuple[float, float]:
    """The band of the sum over all layers, one after the other, in seconds."""
    found = [least(layer, counts.weights, roof) for layer in counts.layers]
    return sum(one.low for one in found), sum(one.high for one in found)

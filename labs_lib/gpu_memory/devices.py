"""How much memory a GPU has, and how much of it a program gets."""

from __future__ import annotations

from dataclasses import dataclass

from labs_lib.errors import LabError

MIB = 2**20
DRIVER = 640 * MIB  # kept by the driver; the largest of what is reported: T4 450, A10 517, A100-40 621 MiB


@dataclass(frozen=True)
class Device:
    """One GPU. `datasheet` is NVIDIA's round figure; `total` is what `nvidia-smi` says, in bytes."""

    name: str
    datasheet: str  # the figure, and the document it stands in
    total: int

    @property
    def usable(self) -> int:
        """Bytes for all programs together (modelled): the total without what the driver keeps."""
        return self.total - DRIVER


# Totals of T4, L4, A10, A100 and H100: github.com/modal-labs/modal-client, pull request 2797 ("nvidia quotes GB on
# their GPUs not GiB"). Of the RTX 4090: 24564 MiB in nvidia-smi's own printout. For the H200 the datasheet's 141 GB
# are taken as powers of ten, the smaller reading. What the driver keeps: T4 shows 15360 MiB and offers PyTorch
# 14.56 GiB (github.com/AlphaGPU/leetgpu-challenges, issue 52); an idle A10 has 541917184 bytes in use
# (github.com/mayooot/detect-gpu, issue 3); an A100-40 of 40960 MiB offers 42298834944 bytes
# (github.com/bottlerocket-os/bottlerocket, pull request 3873).
DEVICES = {
    device.name: device
    for device in (
        Device("T4", "16 GB GDDR6, NVIDIA T4 Tensor Core GPU datasheet", 15360 * MIB),
        Device("L4", "24 GB GDDR6, NVIDIA L4 Tensor Core GPU datasheet", 23034 * MIB),
        Device("A10", "24 GB GDDR6, NVIDIA A10 Tensor Core GPU datasheet", 23028 * MIB),
        Device("A100-40", "40 GB HBM2, NVIDIA A100 Tensor Core GPU datasheet", 40960 * MIB),
        Device("A100-80", "80 GB HBM2e, NVIDIA A100 Tensor Core GPU datasheet", 81920 * MIB),
        Device("H100", "80 GB HBM3, NVIDIA H100 Tensor Core GPU datasheet (SXM)", 81559 * MIB),
        Device("H200", "141 GB HBM3e, NVIDIA H200 Tensor Core GPU datasheet", 141 * 10**9),
        Device("RTX 4090", "24 GB GDDR6X, GeForce RTX 4090 specifications", 24564 * MIB),
    )
}


def find_device(name: str) -> Device:
    """The device of that name; capitals, spaces and hyphens don't matter.

    >>> find_device("rtx4090").datasheet
    '24 GB GDDR6X, GeForce RTX 4090 specifications'

    Raises LabError for a device that is not in the table.
    """
    for known in DEVICES.values():
        if _plain(known.name) == _plain(name):
            return known
    raise LabError(
        f"The device {name!r} is not known.",
        f"Known are {', '.join(DEVICES)}.",
        "Take one of these with as much memory as yours.",
    )


def _plain(name: str) -> str:
    return name.lower().replace(" ", "").replace("-", "").replace("_", "")

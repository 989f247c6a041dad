"""What accelerators can do at most, from their makers' data sheets."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """
    Args:
        bf16_flops: dense bfloat16 matrix FLOPs a second with float32 accumulation, without sparsity.
        memory: bytes.
    """

    bf16_flops: float
    memory: float


# The share of it that a step reaches. One H100, stage 2, blocks compiled: B/16 0.26, L/14 at 336 pixels 0.33 with blocks
# checkpointed (benchmarks/README.md).
MFU = 0.25

# By what torch.cuda.get_device_name() contains; more telling names first.
DEVICES = {
    "B200": Device(2250e12, 180e9),
    "H200": Device(989e12, 141e9),
    "H100 PCIe": Device(756e12, 80e9),
    "H100 NVL": Device(835e12, 94e9),
    "H100": Device(989e12, 80e9),
    "H20": Device(148e12, 96e9),
    "H800": Device(989e12, 80e9),
    "A100-SXM4-40GB": Device(312e12, 40e9),
    "A100-PCIE-40GB": Device(312e12, 40e9),
    "A100": Device(312e12, 80e9),
    "A800": Device(312e12, 80e9),
    "L40S": Device(362e12, 48e9),
    "A10G": Device(70e12, 24e9),
    "RTX 4090": Device(165e12, 24e9),
    "RTX 3090": Device(71e12, 24e9),
}


def find_device(name: str) -> Device | None:
    """The data sheet of the device of this name (`torch.cuda.get_device_name()`), None for one not listed."""
    return next((device for part, device in DEVICES.items() if part.lower() in name.lower()), None)

"""What a training run will take: work, memory, communication, data, time and money.

Counted are the parts described in docs/scale.md. Hours come from the measured images a second of a device where
they are given, and otherwise from a share of its data sheet's FLOPs, which is an assumption.
"""

import math
from dataclasses import dataclass

from training.architectures import architecture
from training.losses.contrastive import MAX_LOGITS
from training.objective import Objective, parse_losses
from training.options import STAGE1_LOSSES, STAGE2_LOSSES

from .communication import STRATEGIES, Collective, embedding_collectives, gradient_collectives
from .devices import DEVICES, find_device
from .flops import step_flops
from .memory import activation_bytes, parameter_count, state_bytes

MAX_REGIONS = 4


@dataclass(frozen=True)
class StageData:
    """Data of a stage (paper, sections 3.3 and 4.1) and tokens a text, start and end included.

    Args:
        images: seen in the one epoch.
        batch: images a device and step, as published.
        long_tokens, short_tokens, phrase_tokens: means over the texts of a kind.
        regions: phrases an image.
        hard_texts: texts an image that only the hard loss needs: ten for each region with negatives.
    """

    images: float
    batch: int
    objective: Objective
    long_tokens: int = 120
    short_tokens: int = 16
    phrase_tokens: int = 12
    regions: float = 0.0
    hard_texts: float = 0.0

    def length_groups(self, images: int) -> list[tuple[int, int]]:
        phrases = round(images * (self.regions + self.hard_texts))
        groups = [(images, self.short_tokens), (images, self.long_tokens), (phrases, self.phrase_tokens)]
        return [group for group in groups if group[0]]


STAGES = {
    1: StageData(images=1.6e9, batch=384, objective=Objective(parse_losses(STAGE1_LOSSES))),
    # 40 M boxes and, for one in four of them, ten negatives.
    2: StageData(12e6, 512, Objective(parse_losses(STAGE2_LOSSES)), regions=40 / 12, hard_texts=10 * 10 / 12),
}


@dataclass(frozen=True)
class Plan:
    """A run to be estimated. Sizes are bytes, rates a second."""

    stage: int
    model: str
    devices: int
    device: str
    strategy: str = "ddp"
    batch: int | None = None
    checkpointing: bool = False
    images_per_second: float | None = None
    mfu: float = 0.4
    price: float | None = None
    image_bytes: float = 60e3
    images_a_core: float | None = None
    shard_records: int = 10_000

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise ValueError(f"Received stage {self.stage}; there are stages 1 and 2.")
        if find_device(self.device) is None:
            raise ValueError(f"Received the device {self.device!r}; data sheets are there for {', '.join(DEVICES)}.")
        if self.strategy not in STRATEGIES:
            raise ValueError(f"Received the strategy {self.strategy!r}; there are {', '.join(STRATEGIES)}.")
        for name in (
            "devices",
            "batch",
            "images_per_second",
            "price",
            "image_bytes",
            "images_a_core",
            "shard_records",
        ):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be above 0, got {value}.")
        if not 0 < self.mfu <= 1:
            raise ValueError(f"mfu is a share of the device's peak between 0 and 1, got {self.mfu}.")

    @property
    def images_a_device(self) -> int:
        return self.batch or STAGES[self.stage].batch

    @property
    def steps(self) -> int:
        return math.floor(STAGES[self.stage].images / (self.images_a_device * self.devices))

    def flops(self) -> int:
        """Model FLOPs of a device and step."""
        config, stage, images = architecture(self.model), STAGES[self.stage], self.images_a_device
        regions = round(images * stage.regions) if stage.regions else None
        return step_flops(config, images, self._patches(), stage.length_groups(images), regions)

    def rate(self) -> float:
        """Images a second and device."""
        if self.images_per_second is not None:
            return self.images_per_second
        return self.images_a_device * self.mfu * find_device(self.device).bf16_flops / self.flops()

    def hours(self) -> float:
        return STAGES[self.stage].images / (self.rate() * self.devices) / 3600

    def memory(self) -> dict[str, float]:
        """Bytes a device, by what they are for."""
        config, stage, images = architecture(self.model), STAGES[self.stage], self.images_a_device
        pairs = images * (MAX_REGIONS if stage.regions else 1)
        return {
            **state_bytes(parameter_count(config), self.strategy, self.devices),
            "activations": activation_bytes(
                config,
                images,
                self._patches(),
                stage.length_groups(images),
                bool(stage.regions),
                checkpointing=self.checkpointing,
            ),
            # Three matrices at a time: logits, their masked copy, a gradient.
            "similarities": 3 * 4 * min(pairs * pairs * self.devices, MAX_LOGITS),
            "gathered embeddings": sum(c.size for c in self.collectives()[0] if c.kind == "all_gather"),
        }

    def collectives(self) -> tuple[list[Collective], list[Collective]]:
        """Those of embeddings, and those of gradients and weights, of a step."""
        config, stage = architecture(self.model), STAGES[self.stage]
        embeddings = embedding_collectives(config, self.images_a_device, MAX_REGIONS, stage.objective, self.devices)
        return embeddings, gradient_collectives(parameter_count(config), self.strategy, self.devices)

    def _patches(self) -> int:
        vision = architecture(self.model).vision_config
        return (vision.image_size // vision.patch_size) ** 2

    def summary(self) -> dict[str, dict[str, float | str]]:
        """Everything, by topic; numbers in the units their names tell."""
        stage, flops, rate, memory = STAGES[self.stage], self.flops(), self.rate(), self.memory()
        step_seconds = self.images_a_device / rate
        embeddings, gradients = (sum(c.sent(self.devices) for c in part) for part in self.collectives())
        device = find_device(self.device)
        total_rate = rate * self.devices
        data: dict[str, float | str] = {
            "terabytes of images": stage.images * self.image_bytes / 1e12,
            "shards": math.ceil(stage.images / self.shard_records),
            "gigabytes a shard": self.shard_records * self.image_bytes / 1e9,
            "images/s read": total_rate,
            "MB/s read": total_rate * self.image_bytes / 1e6,
        }
        if self.images_a_core:
            data["CPU cores a device"] = rate / self.images_a_core
        time: dict[str, float | str] = {
            "images/s and device": rate,
            "from": "measured" if self.images_per_second else f"an assumed {self.mfu:.0%} of the data sheet's FLOPs",
            "MFU": flops / step_seconds / device.bf16_flops,
            "seconds a step": step_seconds,
            "hours": self.hours(),
            "device hours": self.hours() * self.devices,
        }
        if self.price is not None:
            time["cost"] = self.hours() * self.devices * self.price
        return {
            "work": {
                "images": stage.images,
                "global batch": self.images_a_device * self.devices,
                "steps": self.steps,
                "text tokens an image": sum(n * length for n, length in stage.length_groups(1000)) / 1000,
                "parameters (M)": parameter_count(architecture(self.model)) / 1e6,
                "model TFLOPs an image": flops / self.images_a_device / 1e12,
                "model TFLOPs a step and device": flops / 1e12,
            },
            "memory a device (GB)": {
                **{name: size / 1e9 for name, size in memory.items()},
                "sum": sum(memory.values()) / 1e9,
                "there is": device.memory / 1e9,
            },
            "sent by a rank a step (MB)": {
                "embeddings": embeddings / 1e6,
                "gradients and weights": gradients / 1e6,
                "MB/s to hide it behind the step": (embeddings + gradients) / 1e6 / step_seconds,
            },
            "data": data,
            "time": time,
        }

"""What a training run will take: work, memory, communication, data, time and money.

Counted are the parts described in docs/scale.md. Hours come from the measured images a second of a device where
they are given, and otherwise from a share of its data sheet's FLOPs, which is an assumption.
"""

import math
from dataclasses import dataclass
from functools import cached_property

from transformers import PreTrainedConfig

from training.architectures import architecture
from training.family import training_family
from training.losses.contrastive import MAX_LOGITS

from .communication import STRATEGIES, Collective, embedding_collectives, gradient_collectives
from .devices import DEVICES, MFU, find_device
from .families import Groups, PlannedFamily, Texts, planned_family
from .memory import autocast_copies, parameter_count, peak_bytes, state_bytes

MAX_REGIONS = 4
NEGATIVES = 10


@dataclass(frozen=True)
class StageData:
    """Data of a stage (paper, sections 3.3 and 4.1) and tokens a text, start and end included.

    Args:
        images: seen in the one epoch.
        batch: images a device and step, as published.
        long_tokens, short_tokens, phrase_tokens: means over the texts of a kind, of FG-CLIP.
        regions: phrases an image.
        hard_texts: texts an image that only the hard loss needs: ten for each region with negatives.
    """

    images: float
    batch: int
    long_tokens: int = 120
    short_tokens: int = 16
    phrase_tokens: int = 12
    regions: float = 0.0
    hard_texts: float = 0.0

    def texts(self, images: int) -> Texts:
        phrases = round(images * (self.regions + self.hard_texts))
        return Texts(images, phrases, self.short_tokens, self.long_tokens, self.phrase_tokens)


STAGES = {
    1: StageData(images=1.6e9, batch=384),
    # 40 M boxes and, for one in four of them, ten negatives.
    2: StageData(images=12e6, batch=512, regions=40 / 12, hard_texts=NEGATIVES * 10 / 12),
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
    checkpointing: str = "none"
    patches: int | None = None
    images_per_second: float | None = None
    mfu: float = MFU
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
            "patches",
            "images_per_second",
            "price",
            "image_bytes",
            "images_a_core",
            "shard_records",
        ):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be above 0, got {value}.")
        if self.patches is not None and self.family.fixed_patches:
            patches = self.family.patches(self.config)
            raise ValueError(f"Received patches={self.patches} for {self.model}, whose images all have {patches}.")
        if not 0 < self.mfu <= 1:
            raise ValueError(f"mfu is a share of the device's peak between 0 and 1, got {self.mfu}.")

    @property
    def images_a_device(self) -> int:
        return self.batch or STAGES[self.stage].batch

    @property
    def steps(self) -> int:
        return math.floor(STAGES[self.stage].images / (self.images_a_device * self.devices))

    @cached_property
    def config(self) -> PreTrainedConfig:
        return architecture(self.model)

    @cached_property
    def family(self) -> PlannedFamily:
        return planned_family(self.config)

    @property
    def image_patches(self) -> int:
        return self.patches or self.family.patches(self.config)

    @cached_property
    def trained(self) -> int:
        """Parameters that a loss of the stage reaches."""
        needs = self.family.objective(self.stage).needs
        return parameter_count(self.config, but=training_family(self.config).unused(needs))

    def length_groups(self) -> Groups:
        return self.family.length_groups(self.config, STAGES[self.stage].texts(self.images_a_device))

    def flops(self) -> int:
        """Model FLOPs of a device and step."""
        stage, images = STAGES[self.stage], self.images_a_device
        texts = stage.texts(images)
        return self.family.step_flops(
            self.config,
            images,
            self.image_patches,
            self.length_groups(),
            2 * texts.images + texts.phrases,
            stage.regions or None,
        )

    def rate(self) -> float:
        """Images a second and device."""
        if self.images_per_second is not None:
            return self.images_per_second
        return self.images_a_device * self.mfu * find_device(self.device).bf16_flops / self.flops()

    def hours(self) -> float:
        return STAGES[self.stage].images / (self.rate() * self.devices) / 3600

    def memory(self) -> dict[str, float]:
        """Bytes a device, by what they are for."""
        stage, images = STAGES[self.stage], self.images_a_device
        pairs = images * (MAX_REGIONS if stage.regions else 1)
        encoders = self.family.encoders(
            self.config, images, self.image_patches, self.length_groups(), bool(stage.regions)
        )
        return {
            **state_bytes(self.trained, self.strategy, self.devices),
            "autocast copies": autocast_copies(self.config, self.strategy, self.checkpointing),
            "activations": peak_bytes(encoders, True, self.checkpointing),
            # Three matrices at a time: logits, their masked copy, a gradient.
            "similarities": 3 * 4 * min(pairs * pairs * self.devices, MAX_LOGITS),
            "gathered embeddings": sum(c.size for c in self.collectives()[0] if c.kind == "all_gather"),
        }

    def collectives(self) -> tuple[list[Collective], list[Collective]]:
        """Those of embeddings, and those of gradients and weights, of a step."""
        images, stage = self.images_a_device, STAGES[self.stage]
        embeddings = embedding_collectives(
            self.family.width(self.config),
            {
                "images": images,
                "regions": images * MAX_REGIONS,
                "hard regions": round(images * stage.hard_texts / NEGATIVES),
                "rewrites": round(images * stage.hard_texts),
            },
            self.family.objective(self.stage),
            self.devices,
        )
        return embeddings, gradient_collectives(self.trained, self.strategy, self.devices)

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
                "text tokens an image": sum(rows * length for rows, length in self.length_groups())
                / self.images_a_device,
                "parameters (M)": self.trained / 1e6,
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

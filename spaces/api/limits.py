"""What a request may ask for, and who may ask."""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass, field
from pathlib import Path

from dataset_scripts.download import DownloadSettings

KEYS_VARIABLE = "FGCLIP_API_KEYS"


@dataclass(frozen=True)
class Limits:
    """Bounds of one request.

    Args:
        items: texts and images together. boxes, phrases: of a request for regions.
        body_bytes: of the request. image_bytes, pixels: of one image.
        characters: of one text.
        seconds: for the whole request, then it is given up.
        download_seconds: for an image behind a URL.
        private_hosts: whether URLs may name this machine and its network.
    """

    items: int = 256
    boxes: int = 64
    phrases: int = 64
    body_bytes: int = 20_000_000
    image_bytes: int = 10_000_000
    pixels: int = 25_000_000
    characters: int = 10_000
    seconds: float = 30.0
    download_seconds: float = 10.0
    private_hosts: bool = False

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name != "private_hosts" and value <= 0:
                raise ValueError(f"{name} must be above 0; received {value}.")

    @property
    def download(self) -> DownloadSettings:
        return DownloadSettings(
            timeout=self.download_seconds, retries=0, max_bytes=self.image_bytes, private_hosts=self.private_hosts
        )


@dataclass(frozen=True)
class Keys:
    """Keys of which a request must name one; without any, everybody may ask."""

    keys: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def read(cls, file: Path | None) -> Keys:
        """Of a file with one key a line, or of the variable FGCLIP_API_KEYS, separated by commas.

        Raises:
            ValueError: a file without a key.
        """
        if file is None:
            return cls(tuple(filter(None, map(str.strip, os.environ.get(KEYS_VARIABLE, "").split(",")))))
        keys = tuple(filter(None, map(str.strip, file.read_text(encoding="utf-8").splitlines())))
        if not keys:
            raise ValueError(f"{file} holds no key; write one a line.")
        return cls(keys)

    def allow(self, header: str | None) -> bool:
        """Whether a header ``Authorization: Bearer KEY`` names a key."""
        if not self.keys:
            return True
        given = (header or "").removeprefix("Bearer ").encode()
        # All are compared, each in constant time: the answer's time tells nothing about them.
        return sum(hmac.compare_digest(given, key.encode()) for key in self.keys) > 0

"""Tar files whose members are read only as far as they are whole."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from typing import IO

_BLOCK = 512  # bytes; headers and contents are padded to it, and a tar file ends with such blocks of zeros


def whole_members(file: IO[bytes]) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The archive and each of its members in turn.

    ``tarfile`` alone takes a damaged header for the end of the archive, and one cut between two members for a whole one.

    Raises:
        tarfile.TarError: behind the last whole member, where the archive is cut or damaged.
    """
    size, end = file.seek(0, os.SEEK_END), 0
    file.seek(0)
    with tarfile.open(fileobj=file) as tar:
        for member in tar:
            if member.offset_data + member.size > size:
                raise tarfile.ReadError(f"cut in {member.name}, {size:,} bytes")
            end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
            yield tar, member
    file.seek(end)
    if file.read(_BLOCK) != bytes(_BLOCK):
        raise tarfile.ReadError(f"no header and no end mark at byte {end:,} of {size:,}")

"""The one reader of tar files: every byte belongs to a member that is read, or to a fault that is counted.

``tarfile`` takes a damaged header for the end of the archive, and an archive cut between two members for a whole one.
Here reading goes on behind the damage, at the next header whose checksum is right.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from dataset_scripts.paths import IMAGE_SUFFIXES
from dataset_scripts.report import Report

MAX_BYTES = 200_000_000  # of one member; more is no photograph and no text

Fields = dict[str, tuple[int, int]]  # of one sample: suffix to offset and size of the contents

_BLOCK = 512  # bytes; headers and contents are padded to it, and an archive ends with such blocks of zeros
_EXTENSIONS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)  # headers that say more about the next one, such as its long name
_MAX_EXTENSION = 1 << 20  # bytes
_MAX_EXTENSIONS = 8  # before one member
_NAME_FIELD = 100  # bytes of a name that fit into a header


@dataclass(frozen=True)
class Member:
    """One member; bytes ``start`` (of its first header) to ``stop`` belong to it.

    Attributes:
        name: as stored, without ``./``.
        kind: ``"file"``, ``"folder"`` or ``"link or device"``.
        offset, size: where its contents lie.
    """

    name: str
    kind: str
    offset: int
    size: int
    start: int
    stop: int


@dataclass(frozen=True)
class Damage:
    """Bytes ``start`` to ``stop`` that belong to no whole member, and why."""

    start: int
    stop: int
    reason: str


def scan(file: IO[bytes]) -> Iterator[Member | Damage]:
    """The members of an uncompressed archive in their order, and what is damaged between them.

    Blocks of zeros are the end mark or padding, and are passed over; members behind them, of archives that were put
    together, are read.
    """
    size = file.seek(0, os.SEEK_END)
    archive = tarfile.open(fileobj=io.BytesIO(bytes(2 * _BLOCK)))  # noqa: SIM115 (empty: it holds the settings)
    archive.fileobj = file
    place, damage, marked = 0, None, False
    while place < size:
        found = _member_at(archive, file, place, size)
        if damage and isinstance(found, Member) and _is_cut_name(found):
            found = "its long name is lost"  # it stood in the damaged header before
        if isinstance(found, Member):
            if damage:
                yield Damage(damage[0], place, damage[1])
            yield found
            place, damage, marked = found.stop, None, False
        else:
            damage = damage or ((place, found) if found else None)
            place, marked = place + _BLOCK, True
    if damage:
        yield Damage(damage[0], size, damage[1])
    elif not marked:
        yield Damage(size, size, "no end mark: cut between two members")


def _is_cut_name(member: Member) -> bool:
    """Whether a name fills its field in a header that no extension stands before."""
    alone = member.offset - member.start == _BLOCK
    return alone and len(member.name.encode(errors="surrogateescape")) >= _NAME_FIELD


def _member_at(archive: tarfile.TarFile, file: IO[bytes], place: int, size: int) -> Member | str:
    """The member whose header begins at a place, or what is wrong there: nothing for a block of zeros."""
    file.seek(place)
    block = file.read(_BLOCK)
    if not any(block):
        return ""
    try:
        _check_extensions(file, place)
        file.seek(place)
        member = tarfile.TarInfo.fromtarfile(archive)
    except Exception as error:  # besides its own errors, whatever damaged extensions make it raise
        return f"no valid header: {error}"
    stop = archive.offset  # of the next header
    if not place < member.offset_data <= stop or member.size < 0:
        return f"no valid header: size {member.size}"
    if stop - _BLOCK >= size or member.offset_data + min(member.size, stop - member.offset_data) > size:
        return f"cut in {member.name}"
    plain = member.isreg() and not member.issparse()
    name = member.name
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    kind = "folder" if member.isdir() else "file" if plain else "link or device"
    return Member(name, kind, member.offset_data, member.size, place, min(stop, size))


def _check_extensions(file: IO[bytes], place: int) -> None:
    """Refuses chains of extensions that would cost more than any member needs; ``tarfile`` recurses over them.

    Raises:
        tarfile.HeaderError: too many, too large, or no header.
    """
    for _ in range(_MAX_EXTENSIONS + 1):
        file.seek(place)
        header = tarfile.TarInfo.frombuf(file.read(_BLOCK), "utf-8", "surrogateescape")
        if header.type not in _EXTENSIONS:
            return
        if not 0 <= header.size <= _MAX_EXTENSION:
            raise tarfile.HeaderError(f"an extension of {header.size} bytes")
        place += _BLOCK + -(-header.size // _BLOCK) * _BLOCK
    raise tarfile.HeaderError("too many extensions")


def tar_samples(file: IO[bytes], where: str, report: Report, max_bytes: int = MAX_BYTES) -> dict[str, Fields]:
    """The samples of a WebDataset by key, with the place of each field; everything else in the file is counted.

    Members that share a folder and a name up to the first dot are one sample, wherever they lie; what follows the dot
    names the field, in lower case. Where no field is named like an image, names have dots of their own: the last one
    then divides them.

    Args:
        file: uncompressed.
        where: what to call it in the report.
        max_bytes: larger members are left out.

    Raises:
        ValueError: a fault, where the report says ``on_bad="raise"``.
    """
    samples: dict[str, Fields] = {}
    for found in scan(file):
        if isinstance(found, Damage):
            report.bad("tar is cut or damaged", f"{where} bytes {found.start:,} to {found.stop:,}", found.reason)
            continue
        if found.kind == "folder":
            continue
        folder, slash, name = found.name.rpartition("/")
        stem, _, field = name.partition(".")
        if found.kind != "file":
            report.bad(f"tar member is a {found.kind}", f"{where} {found.name}")
        elif not stem:
            report.missing("tar member is a hidden file", f"{where} {found.name}")
        elif found.size > max_bytes:
            report.bad("tar member is too large", f"{where} {found.name}", f"{found.size:,} bytes")
        else:
            fields = samples.setdefault(f"{folder}{slash}{stem}", {})
            if field.lower() in fields:
                report.bad("tar member is repeated", f"{where} {found.name}")
            fields[field.lower()] = found.offset, found.size
    return {key: fields for sample in samples.items() for key, fields in _divided(*sample)}


def _divided(key: str, fields: Fields) -> Iterator[tuple[str, Fields]]:
    """The sample; or several, where names have dots of their own."""
    parts: dict[str, Fields] = {}
    if not any(field in IMAGE_SUFFIXES for field in fields):
        for field, place in fields.items():
            stem, dot, suffix = field.rpartition(".")
            parts.setdefault(f"{key}.{stem}" if dot else key, {})[suffix] = place
    if any(suffix in IMAGE_SUFFIXES for part in parts.values() for suffix in part):
        yield from parts.items()
    else:
        yield key, fields

"""Any image data set that ``datasets.load_dataset`` reads: on the Hugging Face Hub, or as local files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from datasets import Dataset, Image, load_dataset

from dataset_scripts.convert.source import Draft, Source
from dataset_scripts.image_sources import MissingImage
from dataset_scripts.own_data.mapping import Columns, check_columns, draft_from_row
from dataset_scripts.report import Report


@dataclass
class RowImages:
    """The images in one column of a map-style set, named by their row number."""

    rows: Dataset
    readers: int = 4

    def read(self, image: str) -> bytes:
        value = self.rows[int(image)]["image"]
        if value is None:
            raise MissingImage("row has no image")
        if value["bytes"] is not None:
            return value["bytes"]
        try:
            with open(value["path"], "rb") as file:
                return file.read()
        except (FileNotFoundError, TypeError) as error:
            raise MissingImage("image file is missing") from error


def hub_source(
    name: str, columns: Columns, split: str = "train", config: str | None = None, revision: str | None = None
) -> Source:
    """Rows of a data set with an image column, by a mapping of columns.

    Args:
        name: ``owner/name`` on the Hub, or what else ``load_dataset`` takes. Code in a data set is never run.
        columns: which column holds what.
        split, config, revision: as ``load_dataset`` takes them.

    Raises:
        ValueError: the set lacks a column, or the image column holds no images.
    """
    rows = load_dataset(name, config, split=split, revision=revision)
    check_columns(columns, set(rows.column_names), name)
    if not isinstance(rows.features[columns.image], Image):
        raise ValueError(
            f"column {columns.image!r} of {name} is {rows.features[columns.image]}, not an Image; if it holds paths or "
            "URLs, save the table as CSV and use the converter for tables"
        )
    pictures = rows.select_columns([columns.image]).rename_column(columns.image, "image")
    pictures = pictures.cast_column("image", Image(decode=False))
    texts = rows.remove_columns([columns.image])

    def drafts(report: Report) -> Iterator[Draft]:
        for number, row in enumerate(texts):
            report.keep("records read")
            draft = draft_from_row(row, columns, str(number), f"{split}/{number}", report)
            if draft is not None:
                yield draft

    return Source(name, revision or rows._fingerprint, drafts, RowImages(pictures), 1000 * len(rows))

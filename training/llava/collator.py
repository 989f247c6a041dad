"""From rows to batches: trl's collator, with pictures opened as everywhere else in this project."""

from pathlib import Path
from typing import Any

from transformers import LlavaProcessor
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

from modeling_fgclip.pixels import BadImage, to_rgb


class LlavaCollator:
    """Opens a row's image and has trl make ids, pixels and labels.

    Args:
        processor: of the model.
        folder: to which the rows' images are relative.
        max_length: tokens of a row; what is longer is cut.
        completions: rows of `prompt` and `completion`, whose completion is learned; else of `messages`, whose answers are.
    """

    def __init__(self, processor: LlavaProcessor, folder: Path, max_length: int | None, completions: bool):
        self.folder = folder
        # Both losses by name: without them trl learns every token, those of the image too.
        self.collate = DataCollatorForVisionLanguageModeling(
            processor, max_length=max_length, completion_only_loss=completions, assistant_only_loss=not completions
        )

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        return self.collate([{**example, "images": list(map(self.image, example["images"]))} for example in examples])

    def image(self, name: str) -> Any:
        try:
            return to_rgb(str(self.folder / name))
        except (BadImage, OSError) as error:
            raise ValueError(f"{self.folder / name} cannot be read: {error}. Mend it, or take its row out.") from None

"""Requests: OpenAI's form, the form of FG-CLIP's clients, and what no other engine has."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Text = Annotated[str, StringConstraints(min_length=1)]
Box = Annotated[list[float], Field(min_length=4, max_length=4)]


class Item(BaseModel):
    """A text or an image."""

    model_config = ConfigDict(extra="forbid")
    text: Text | None = None
    image: Text | None = Field(None, description="http(s) URL, data URL or base64")


class EmbeddingRequest(BaseModel):
    """OpenAI's `input`, or `input_type` with `texts` or `images`."""

    model_config = ConfigDict(extra="forbid")
    model: str | None = None
    input: Text | Item | list[Text | Item] | None = Field(
        None, description="Texts; images as data URLs or as items {image: …}"
    )
    input_type: Literal["text", "image"] | None = None
    texts: list[Text] | None = None
    images: list[Text] | None = None
    encoding_format: Literal["float", "base64"] = "float"
    long_text: bool | Literal["auto"] = Field(
        "auto", description="Whether texts are long captions; auto: where they do not fit into a short one"
    )
    dimensions: int | None = Field(None, description="Not supported: the model has one size")
    user: str | None = None


class RegionRequest(BaseModel):
    """Embeddings of boxes of an image, and their scores against phrases."""

    model_config = ConfigDict(extra="forbid")
    model: str | None = None
    image: Text
    boxes: list[Box] = Field(min_length=1)
    box_format: Literal["pixel", "normalized"] = "pixel"
    phrases: list[Text] | None = Field(None, description="Phrases and hard negatives, scored for every box")


class MapRequest(BaseModel):
    """Where phrases are in an image."""

    model_config = ConfigDict(extra="forbid")
    model: str | None = None
    image: Text
    phrases: list[Text] = Field(min_length=1)
    overlay: bool = Field(False, description="Also a PNG of the image under each map, in base64")


Answer = dict[str, Any]

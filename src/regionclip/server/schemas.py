"""What requests hold and answers say, as OpenAPI describes them."""

from typing import Annotated, Any

from fastapi import Form, UploadFile
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

Vector = list[float]
UNKNOWN_FIELD = "unknown_field"
"""The kind of error whose sentence names the field itself."""
MOST_OF_A_NAME = 40
"""Characters of a field that nobody knows, so that there is room for those that are known."""


class Asked(BaseModel):
    """What a request holds, with no other fields."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _only_known_fields(cls, data: Any) -> Any:
        known = cls.model_fields
        unknown = [name for name in data if name not in known] if isinstance(data, dict) else []
        if unknown:
            # half a character cannot be handed to pydantic
            name = str(unknown[0])[:MOST_OF_A_NAME].encode("utf-8", "replace").decode()
            raise PydanticCustomError(
                UNKNOWN_FIELD,
                "{name}: is no field; fields are {known}",
                {"name": name, "known": ", ".join(known)},
            )
        return data


class ProblemAnswer(BaseModel):
    """Why a request was not answered."""

    detail: str = Field(description="One sentence: what is wrong, and the way out.")


def _without_null(schema: dict[str, Any]) -> None:
    """Describe what may be left out as what it is if it is there: a form has no ``null``."""
    for field in schema["properties"].values():
        field |= next((each for each in field.pop("anyOf", []) if each.get("type") != "null"), {})


class ImageForm(Asked):
    """An image, uploaded or by its address."""

    model_config = ConfigDict(json_schema_extra=_without_null)

    image: UploadFile | None = Field(None, description="A JPEG, PNG, WebP, TIFF, ... file.")
    image_url: str | None = Field(
        None,
        min_length=1,
        description="Instead of a file, its address; only of hosts that the service allows.",
    )
    classes: str | None = Field(
        None,
        min_length=1,
        description="What to look for, with commas: 'cat, remote control'; or a built-in list such "
        "as coco80; or a JSON list of names. By default, to detect, what the service was started "
        "with; for regions, none.",
    )
    vocabulary: str | None = Field(
        None,
        min_length=1,
        description="Instead of classes, the id of a vocabulary that was created before.",
    )

    @field_validator("image", mode="before")
    @classmethod
    def _is_file(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise PydanticCustomError(
                "text_for_file", "is text, not a file; with curl write -F image=@photo.jpg"
            )
        return value


class DetectForm(ImageForm):
    """What to detect, and in what."""

    min_score: float | None = Field(
        None, ge=0, le=1, allow_inf_nan=False, description="Lowest score of a detection."
    )
    nms_iou: float | None = Field(
        None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Overlap above which the weaker of two boxes of a class goes.",
    )
    max_detections: int | None = Field(None, ge=1, le=1000, description="Most boxes of the image.")
    vectors: bool = Field(False, description="Give the vector of each detection, too.")


class RegionsForm(ImageForm):
    """Regions of an image."""

    boxes: str = Field(
        min_length=1,
        description="JSON: [[x0, y0, x1, y1], ...] in pixels of the image; may be empty: [].",
    )
    top_k: int = Field(
        5, ge=1, le=100, description="Names given for each region, if classes are given."
    )


DetectInput = Annotated[DetectForm, Form(media_type="multipart/form-data")]
RegionsInput = Annotated[RegionsForm, Form(media_type="multipart/form-data")]


class ImageSize(BaseModel):
    """Of the image as it was sent, upright."""

    width: int
    height: int


class Detection(BaseModel):
    """One box with its name."""

    box: list[float] = Field(description="[x0, y0, x1, y1] in pixels of the image.")
    name: str
    score: float = Field(description="In [0, 1]; best first.")
    objectness: float | None = Field(description="In [0, 1], if the model's boxes have one.")
    vector: Vector | None = Field(description="Text-aligned, not normalised, if asked for.")


class DetectAnswer(BaseModel):
    """Detections, best first."""

    model: str
    image: ImageSize
    detections: list[Detection]


class NamedScore(BaseModel):
    """How well a name fits."""

    name: str
    score: float = Field(description="In [0, 1]; over all names and background they sum to one.")


class Region(BaseModel):
    """One region that was asked about."""

    vector: Vector = Field(description="Text-aligned, not normalised.")
    names: list[NamedScore] = Field(description="Best first; empty without classes.")


class RegionsAnswer(BaseModel):
    """Regions, in the order of the boxes."""

    model: str
    image: ImageSize
    regions: list[Region]


class TextsInput(Asked):
    """Texts to encode as they are, without prompt templates."""

    texts: list[str] = Field(min_length=1, fail_fast=True, examples=[["a cup", "a mug"]])


class TextsAnswer(BaseModel):
    """One vector per text."""

    model: str
    encoder_id: str = Field(description="Vectors of equal encoders can be compared.")
    vectors: list[Vector]


class VocabularyInput(Asked):
    """Class names to encode once."""

    names: list[str] = Field(min_length=1, fail_fast=True, examples=[["cat", "remote control"]])
    templates: str | list[str] | None = Field(
        None,
        description="A built-in set of prompts such as imagenet80, one prompt with {} for the "
        "name, or several. By default those that the model was made for.",
    )


class VocabularyAnswer(BaseModel):
    """A vocabulary that is kept."""

    id: str = Field(description="Made of names and prompts: the same in every service.")
    names: list[str]
    templates: list[str]
    encoder_id: str


class VocabularySize(BaseModel):
    """A vocabulary that is kept, without its names."""

    id: str
    num_names: int
    num_templates: int


class VocabulariesAnswer(BaseModel):
    """What is kept, the oldest first."""

    vocabularies: list[VocabularySize]


class ModelAnswer(BaseModel):
    """What the service runs."""

    model: str
    version: str
    encoder_id: str
    classes: list[str] | None = Field(description="For requests that give none.")
    limits: dict[str, Any]


class HealthAnswer(BaseModel):
    """Whether the service lives, or takes requests."""

    status: str

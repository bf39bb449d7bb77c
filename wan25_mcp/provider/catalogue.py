"""The models as data. Validation, texts, image conversion and estimates derive from these rows.

To add a model, add its name to `ModelName` and its row to `_ROWS`. The emulator has its own rules,
as a second opinion. Sources: docs/provider-api.md §1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

ModelName = Literal["wan2.5-image-to-image"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What a model accepts and returns.

    Args:
        min_side: Minimum width and height of an input image, in pixels.
        max_bytes: Maximum size of an input image's file.
        formats: The accepted formats of an input image, as Pillow spells them.
        typical_seconds: The range of most run times.
        estimated_seconds: The provider's estimate for every run.
        link_life_seconds: The lifetime of a link to a result.
        credits_per_image: The price assumed until the provider has reported one.
    """

    name: ModelName
    max_prompt_characters: int
    max_images_in: int
    max_images_out: int
    min_side: int
    max_side: int
    max_bytes: int
    formats: tuple[str, ...]
    takes_transparency: bool
    typical_seconds: tuple[int, int]
    estimated_seconds: float
    link_life_seconds: int
    credits_per_image: float

    @property
    def image_rules(self) -> str:
        """The requirements for a linked image, in words."""
        formats = ", ".join(self.formats[:-1]) + f" or {self.formats[-1]}"
        if not self.takes_transparency:
            formats = formats.replace("PNG", "PNG without transparency")
        return (
            f"{formats}, at most {self.max_bytes // 1_000_000} MB, "
            f"each side {self.min_side}-{self.max_side} px"
        )


_ROWS: Final = (
    Model(
        name="wan2.5-image-to-image",
        max_prompt_characters=2000,
        max_images_in=2,
        max_images_out=4,
        min_side=384,
        max_side=5000,
        max_bytes=10_000_000,  # "10 MB", read as the smaller of its two meanings
        formats=("JPEG", "PNG", "BMP", "WebP"),
        takes_transparency=False,
        typical_seconds=(40, 120),
        estimated_seconds=30.0,  # optimistic
        link_life_seconds=24 * 3600,
        credits_per_image=1.5,
    ),
)

MODELS: Final[dict[ModelName, Model]] = {model.name: model for model in _ROWS}
MODEL: Final[ModelName] = get_args(ModelName)[0]
"""The default model of a request."""

DEFAULT: Final = MODELS[MODEL]


def model_named(name: str | None) -> Model:
    """The row of the model with this name; the default model's for an unknown name."""
    return next((model for model in _ROWS if model.name == name), DEFAULT)

"""The arguments of each tool, their schemas, and the texts of every refusal.

The rules themselves are in `provider.models`. A refusal names the argument and what is expected. It
never quotes a rejected value, which may be a secret pasted in the wrong place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, Final, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from wan25_mcp.errors import InvalidRequest
from wan25_mcp.inputs.prepare import EditInput, Local
from wan25_mcp.inputs.read import is_link
from wan25_mcp.provider.catalogue import MODELS
from wan25_mcp.provider.models import (
    MAX_CALLBACK_CHARACTERS,
    MAX_IMAGES_IN,
    MAX_IMAGES_OUT,
    MAX_LINK_CHARACTERS,
    MAX_PROMPT_CHARACTERS,
    TASK_ID,
    CallbackUrl,
    EditRequest,
    public_image,
)
from wan25_mcp.url_safety import is_reserved, origin_of

MAX_SOURCE_CHARACTERS: Final = 27_000_000
"""Limit of a `data:` URI: an image of 20 MB, twice what the model accepts, in base64."""


def _stripped(value: object) -> object:
    return value.strip(" \t\r\n\"'`") if isinstance(value, str) else value


TaskId = Annotated[
    str,
    Field(pattern=f"^{TASK_ID.pattern}$", description="As edit_image returned it."),
    BeforeValidator(_stripped),
]


def _source(source: str, info: ValidationInfo) -> str:
    """Check a link. A local image is checked when it is read."""
    if not is_link(source):
        return source
    if len(source) > MAX_LINK_CHARACTERS:
        raise PydanticCustomError("long_link", "is a link of more than 8192 characters")
    return public_image(source, info)


def images_described(forms: str) -> str:
    """The description of `image_urls`, for the forms that a server accepts."""
    return f"1-{MAX_IMAGES_IN} images: {forms}. The last one sets the aspect of the result."


Sources = Annotated[
    tuple[Annotated[str, Field(max_length=MAX_SOURCE_CHARACTERS), AfterValidator(_source)], ...],
    Field(
        min_length=1,
        max_length=MAX_IMAGES_IN,
        strict=False,
        description=images_described(
            "public link, absolute path or file:// URI of a local image, or data: URI"
        ),
    ),
]


def _reached(link: str, info: ValidationInfo) -> str:
    """Check that somebody can be behind a callback: models invent addresses."""
    if origin_of(link) not in (info.context or {}).get("trusted", ()) and is_reserved(link):
        raise PydanticCustomError("link", "is at a name reserved for examples and tests")
    return link


class EditArguments(EditRequest):
    """The arguments of `edit_image`."""

    image_urls: Sources
    callback_url: Annotated[CallbackUrl, AfterValidator(_reached)] | None = None
    force_new: bool = Field(
        default=False,
        description="Set true to start, and pay for, a new edit even if an identical one exists.",
    )

    def with_images(self, images: tuple[str | Local, ...]) -> EditInput:
        """The input of the edit, once its images have been read."""
        return EditInput(self.prompt, images, self.n, self.callback_url, self.model)


class ProgramArguments(EditArguments):
    """The arguments of `Editor.edit`, whose images may be in memory."""

    duplicate_window: Annotated[float, Field(ge=0)] | None = None
    wait: bool = True
    timeout: Annotated[float, Field(ge=0)] | None = None


class TaskArguments(BaseModel):
    """The arguments of `get_task`."""

    model_config: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid", frozen=True)

    task_id: TaskId


class WaitArguments(TaskArguments):
    """The arguments of `wait_for_task`."""

    timeout_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        default=None, description="Seconds to wait."
    )


Arguments = TypeVar("Arguments", bound=BaseModel)


def read(
    model: type[Arguments], given: Mapping[str, Any], *, trusted: Collection[str] = ()
) -> Arguments:
    """Validate the arguments of a call.

    Args:
        trusted: Origins that links may have although they are not public.

    Raises:
        InvalidRequest: With one sentence for each wrong argument.
    """
    try:
        return model.model_validate(_tidy(model, given), context={"trusted": frozenset(trusted)})
    except ValidationError as error:
        raise _refusal(model, error) from None


def may_name_a_task(given: Mapping[str, Any]) -> bool:
    """Whether `task_id` can be the id of a task, which may have been charged."""
    name = _stripped(given.get("task_id"))
    return isinstance(name, str) and TASK_ID.fullmatch(name) is not None


_LEFT_OUT: Final = ("", "none", "null")
_NUMBER: Final = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")
_NUMBERS: Final = ("n", "timeout_seconds")


def _tidy(model: type[BaseModel], given: Mapping[str, Any]) -> dict[str, Any]:
    """Accept deviations of clients whose meaning is clear.

    Some send `null`, or a word for it, for every argument that was left out. Some send a number as
    text, a list as JSON text, or one link instead of a list of one.
    """
    optional = {name for name, rule in model.model_fields.items() if not rule.is_required()}
    values = {
        name: value for name, value in given.items() if name not in optional or not _is_none(value)
    }
    for name in _NUMBERS:
        if isinstance(text := values.get(name), str) and _NUMBER.fullmatch(text.strip()):
            values[name] = float(text)
    links = values.get("image_urls")
    if isinstance(links, str):
        values["image_urls"] = [links]
        if links.lstrip().startswith("["):
            with suppress(ValueError, RecursionError):
                values["image_urls"] = json.loads(links)
    return values


def _is_none(value: object) -> bool:
    return value is None or (isinstance(value, str) and value.strip().lower() in _LEFT_OUT)


_RULES: Final = {
    "prompt": f"text of 1 to {MAX_PROMPT_CHARACTERS} characters",
    "image_urls": f"a list of {' or '.join(map(str, range(1, MAX_IMAGES_IN + 1)))} images",
    "n": f"a whole number from 1 to {MAX_IMAGES_OUT}",
    "callback_url": f"a public https:// link of at most {MAX_CALLBACK_CHARACTERS} characters",
    "model": f"{' or '.join(MODELS)}",
    "force_new": "true or false, without quotes",
    "task_id": "a task id as edit_image returned it",
    "timeout_seconds": "a number of seconds, 0 or more",
    "timeout": "a number of seconds, 0 or more, or None",
    "duplicate_window": "a number of seconds, 0 or more, or None",
    "wait": "true or false",
}

_FIXES: Final = {
    "image_urls": "Give direct, public https:// links, or absolute paths of local images.",
    "callback_url": "Leave callback_url out, unless the user gave a public https:// address.",
    "task_id": "Pass the task_id exactly as edit_image returned it.",
}


def _refusal(model: type[BaseModel], error: ValidationError) -> InvalidRequest:
    # Not the input: it may be a secret. Not the URL: it points to the documentation of pydantic.
    wrongs = _innermost(error.errors(include_url=False, include_context=True))
    sentences = dict.fromkeys(_sentence(model, wrong) for wrong in wrongs)
    fields = [str(wrong["loc"][0]) for wrong in wrongs if wrong["loc"]]
    fix = next(
        (_FIXES[field] for field in fields if field in _FIXES), "Fix this argument and call again."
    )
    return InvalidRequest(" ".join([*sentences][:4]), fix=f"{fix} Nothing was sent or charged.")


def _innermost(wrongs: list[ErrorDetails]) -> list[ErrorDetails]:
    """Drop the errors about a list that only repeat an error about its item."""
    parents = {wrong["loc"][:-1] for wrong in wrongs if wrong["loc"]}
    return [wrong for wrong in wrongs if wrong["loc"] not in parents]


def _sentence(model: type[BaseModel], wrong: ErrorDetails) -> str:
    where = _where(wrong["loc"])
    field = str(wrong["loc"][0]) if wrong["loc"] else ""
    match wrong["type"]:
        case "missing":
            return f"{field} is required."
        case "extra_forbidden":
            return f"Unknown argument{_safe_name(field)}{_nearest(model, field)}."
        case "string_too_long":
            limit = wrong.get("ctx", {}).get("max_length")
            return f"{where} has {len(wrong['input'])} characters; the limit is {limit}."
        case "model_limit":
            return f"{wrong['msg']}."
        case "link" | "long_link" | "blank" | "unicode":
            return f"{where} {wrong['msg']}."
    if len(wrong["loc"]) > 1:
        return f"{where} must be text."
    return f"{where} must be {_RULES.get(field, 'valid')}."


def _where(location: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else str(part) for part in location)


def _nearest(model: type[BaseModel], name: str) -> str:
    """The argument that was probably meant, and all there are."""
    meant = get_close_matches(name, model.model_fields, n=1, cutoff=0.75)
    valid = ", ".join(model.model_fields)
    return f"{f'; {meant[0]} was probably meant' if meant else ''}. Valid arguments: {valid}"


def _safe_name(name: str) -> str:
    return f" {name}" if name.isidentifier() and len(name) <= 40 else ""

"""The provider's requests and answers as types: the request, the task, its usage, the errors.

Tool schemas, validation and the README derive from these types, which take their numbers from the
catalogue. Requests are strict, because a wrong one costs money or a round trip. Answers are read
leniently, because every enum of the provider is open, and a field that is missing, new or invalid
must not lose a paid result. Sources as in docs/provider-api.md: [S] specification, [V] vendor
documentation, [R] recorded, [C] vendor client, [I] inferred.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from wan25_mcp import url_safety
from wan25_mcp.provider.catalogue import MODEL, MODELS, ModelName
from wan25_mcp.provider.image_links import why_no_image
from wan25_mcp.provider.statuses import Status, read_status
from wan25_mcp.redaction import Redactor, one_line

# The maximum of all models, because a schema is read before a model is chosen. A request is checked
# against the limits of its own model.
MAX_PROMPT_CHARACTERS: Final = max(model.max_prompt_characters for model in MODELS.values())
MAX_IMAGES_IN: Final = max(model.max_images_in for model in MODELS.values())
MAX_IMAGES_OUT: Final = max(model.max_images_out for model in MODELS.values())
MAX_CALLBACK_CHARACTERS: Final = 2048
MAX_LINK_CHARACTERS: Final = 8192

# --- the request ----------------------------------------------------------------------------


def _public(link: str, info: ValidationInfo, schemes: tuple[str, ...]) -> str:
    trusted: frozenset[str] = (info.context or {}).get("trusted", frozenset())
    try:
        url_safety.check_public(link, schemes=schemes, trusted=trusted)
    except url_safety.NotPublic as reason:
        raise PydanticCustomError("link", "{reason}", {"reason": str(reason)}) from None
    return link


def public_image(link: str, info: ValidationInfo) -> str:
    """Check a link that the provider will download."""
    if reason := why_no_image(_public(link, info, ("https", "http"))):
        raise PydanticCustomError("link", "{reason}", {"reason": reason})
    return link


def _public_callback(link: str, info: ValidationInfo) -> str:
    return _public(link, info, ("https",))


def _readable(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "is empty")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("unicode", "is not valid Unicode text") from None
    return text


def _whole(value: object) -> object:
    """JSON has one kind of number: 2.0 is the integer 2. Text and booleans are not numbers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Prompt = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_PROMPT_CHARACTERS,
        description=f"One instruction of at most {MAX_PROMPT_CHARACTERS} characters: what to "
        "change and what must stay. Call the inputs 'image 1' and 'image 2'.",
    ),
    AfterValidator(_readable),
]
ImageUrls = Annotated[
    tuple[Annotated[str, Field(max_length=MAX_LINK_CHARACTERS), AfterValidator(public_image)], ...],
    Field(
        min_length=1,
        max_length=MAX_IMAGES_IN,
        strict=False,  # a JSON array arrives as a list
        description=(
            f"1-{MAX_IMAGES_IN} direct public links. The last one sets the aspect of the result."
        ),
    ),
]
ImageCount = Annotated[
    int,
    Field(ge=1, le=MAX_IMAGES_OUT, description=f"Result images, 1-{MAX_IMAGES_OUT}, default 1."),
    BeforeValidator(_whole),
]
CallbackUrl = Annotated[
    str,
    Field(
        max_length=MAX_CALLBACK_CHARACTERS,
        description="Leave null unless the user gave a public https URL to post the result to.",
    ),
    AfterValidator(_public_callback),
]


class EditRequest(BaseModel):
    """One edit as the provider's submit endpoint accepts it (provider-api.md §1).

    Validate with `context={"trusted": origins}` to exempt the configured API's own origin from
    the rule that links must be public.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid", frozen=True)

    prompt: Prompt
    image_urls: ImageUrls
    # Always sent: the default behind this gateway is undocumented, and the model owner's is 4 [V].
    n: ImageCount = 1
    callback_url: CallbackUrl | None = None
    model: ModelName = Field(default=MODEL, description=f"Default {MODEL}.")

    @model_validator(mode="after")
    def _fits_its_model(self) -> EditRequest:
        model = MODELS[self.model]
        for name, size, limit, what in (
            ("prompt", len(self.prompt), model.max_prompt_characters, "characters"),
            ("image_urls", len(self.image_urls), model.max_images_in, "images"),
            ("n", self.n, model.max_images_out, "images"),
        ):
            if size > limit:
                text = "{name} is {size} {what}; the limit of {model} is {limit}"
                facts = {"name": name, "size": size, "what": what, "limit": limit}
                raise PydanticCustomError("model_limit", text, {**facts, "model": model.name})
        return self

    def wire(self) -> dict[str, Any]:
        """The JSON body of the submit."""
        return self.model_dump(mode="json", exclude_none=True)


TASK_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~:-]{0,199}")
"""The ids that are passed on. They cannot contain a URL's slash, query or dot segment."""

# --- the answers ----------------------------------------------------------------------------


def _none_if_invalid(value: object, parse: ValidatorFunctionWrapHandler) -> Any:
    try:
        return parse(value)
    except ValueError:
        return None


_Lenient = WrapValidator(_none_if_invalid)
_MAX_TEXT: Final = 4000
_LOOKALIKES_ONLY: Final = Redactor()


def _fit_to_quote(text: str | None, info: ValidationInfo) -> str | None:
    """The provider's text on one line and without secrets."""
    if text is None:
        return None
    redact: Redactor = (info.context or {}).get("redact", _LOOKALIKES_ONLY)
    return one_line(redact(text), _MAX_TEXT)


Text = Annotated[str | None, Field(max_length=_MAX_TEXT), AfterValidator(_fit_to_quote), _Lenient]
Credits = Annotated[float | None, Field(ge=0, le=1e9, allow_inf_nan=False), _Lenient]
Seconds = Annotated[float | None, Field(ge=0, le=1e10, allow_inf_nan=False), _Lenient]


class Lenient(BaseModel):
    """An answer of the provider. Unknown fields are ignored, and invalid ones count as missing.

    Validate with `context={"redact": Redactor(secrets)}` to hide secrets in its texts.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore", frozen=True)


class Usage(Lenient):
    """What a task costs, in the provider's credits."""

    credits_reserved: Credits = None
    credits_used: Credits = None
    billing_rule: Text = None
    user_group: Text = None


class TaskInfo(Lenient):
    """The provider's information about a task. Times are in seconds."""

    can_cancel: Annotated[bool | None, _Lenient] = None
    estimated_time: Seconds = None


class TaskError(Lenient):
    """Why a task failed."""

    code: Text = None
    message: Text = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return {"message": value} if isinstance(value, str) else value


def _links(body: Mapping[str, Any]) -> tuple[str, ...]:
    """`results`, or `result_data` if that is missing. Each may be a list or an object [C]."""
    found = [*_urls_in(body.get("results"))] or [*_urls_in(body.get("result_data"))]
    return tuple(dict.fromkeys(found))


def _urls_in(value: object, depth: int = 8) -> Iterator[str]:
    """Known answers nest 3 deep. Python 3.12 parses deeper than functions can call themselves."""
    if isinstance(value, str):
        if value.startswith(("https://", "http://")):
            yield value
    elif isinstance(value, list) and depth:
        for item in value:
            yield from _urls_in(item, depth - 1)
    elif isinstance(value, dict) and depth:
        yield from _urls_in(value.get("url") or value.get("urls") or value.get("images"), depth - 1)


class Task(Lenient):
    """The provider's record of one edit, just created or queried (provider-api.md §1 and §3)."""

    id: Annotated[str, Field(pattern=f"^{TASK_ID.pattern}$")]
    status: Annotated[Status, BeforeValidator(read_status)] = "unknown"
    progress: Annotated[int | None, Field(ge=0, le=100), _Lenient] = None
    created: Seconds = None
    duration: Seconds = None
    model: Text = None
    usage: Annotated[Usage | None, _Lenient] = None
    task_info: Annotated[TaskInfo | None, _Lenient] = None
    error: Annotated[TaskError | None, _Lenient] = None
    image_urls: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _collect_links(cls, value: object) -> object:
        return {**value, "image_urls": _links(value)} if isinstance(value, dict) else value


class Balance(Lenient):
    """Credits of an account or of one key."""

    remaining_credits: Credits = None
    used_credits: Credits = None
    unlimited_credits: Annotated[bool | None, _Lenient] = None


class CreditReport(Lenient):
    """The answer of the free credits endpoint [V]."""

    token: Annotated[Balance | None, _Lenient] = None
    user: Annotated[Balance | None, _Lenient] = None


class ErrorBody(Lenient):
    """An error of the provider, of either generation and with or without its envelope.

    See provider-api.md §2.
    """

    code: Text = None
    message: Text = None
    type: Text = None
    param: Text = None
    fallback_suggestion: Text = None

    @model_validator(mode="before")
    @classmethod
    def _unwrap(cls, value: object) -> object:
        inner = value.get("error", value) if isinstance(value, dict) else value
        if isinstance(inner, str):
            return {"message": inner}
        if not isinstance(inner, dict):
            return {}
        code = inner.get("code")
        return {**inner, "code": None if code is None or isinstance(code, bool) else str(code)}

    @property
    def wait_seconds(self) -> float | None:
        """The wait that `fallback_suggestion` asks for ("retry after 60 seconds")."""
        found = re.search(r"retry after (\d{1,6}) second", self.fallback_suggestion or "", re.I)
        return float(found.group(1)) if found else None

"""What callers pass in, and how a refusal reads."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stage import PICTURE
from wan25_mcp.editing import arguments
from wan25_mcp.editing.arguments import EditArguments, TaskArguments, WaitArguments
from wan25_mcp.errors import InvalidRequest

GOOD: dict[str, Any] = {"prompt": "Make it night", "image_urls": [PICTURE]}
ARGUMENTS = "prompt, image_urls, n, callback_url, model, force_new"
LINKS_FIX = (
    "Give direct, public https:// links, or absolute paths of local images. "
    "Nothing was sent or charged."
)


def refusal(model: Any, given: dict[str, Any]) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        arguments.read(model, given)
    error = refused.value
    assert (error.code, error.charged, error.retryable) == ("invalid_request", "no", False)
    assert error.__cause__ is None
    assert error.__suppress_context__
    return error


ACCEPTED = [
    {"prompt": "p"},
    {"prompt": "p" * 2000},
    {"prompt": "画" * 2000},
    {"prompt": "👩‍👩‍👧"},
    {"prompt": " p\n"},
    {"image_urls": [PICTURE, PICTURE]},
    {"image_urls": [PICTURE + "?" + "x" * (8192 - len(PICTURE) - 1)]},
    {"image_urls": json.dumps([PICTURE])},
    {"n": 1},
    {"n": 4},
    {"n": 2.0},
    {"n": None},
    {"n": "2"},
    {"n": " 4.0 "},
    {"n": ""},
    {"callback_url": None},
    {"callback_url": ""},
    {"callback_url": "none"},
    {"callback_url": " NULL "},
    {"callback_url": "https://a.dev/" + "x" * (2048 - len("https://a.dev/"))},
    {"model": None},
    {"model": "wan2.5-image-to-image"},
    {"force_new": True},
    {"force_new": None},
]


@pytest.mark.parametrize("fields", ACCEPTED, ids=lambda fields: repr(fields)[:50])
def test_what_the_api_takes_is_accepted_at_its_bounds(fields: dict[str, Any]) -> None:
    asked = arguments.read(EditArguments, {**GOOD, **fields})
    assert asked.with_images(asked.image_urls).content()["n"] in (1, 2, 4)


def test_a_whole_number_written_as_a_fraction_is_that_number() -> None:
    n = arguments.read(EditArguments, {**GOOD, "n": 2.0}).n
    assert (n, type(n)) == (2, int)


def test_defaults_are_one_image_of_the_only_model_and_no_new_charge() -> None:
    assert arguments.read(EditArguments, GOOD).model_dump() == {
        "prompt": "Make it night",
        "image_urls": (PICTURE,),
        "n": 1,
        "callback_url": None,
        "model": "wan2.5-image-to-image",
        "force_new": False,
    }


PROMPT = "prompt must be text of 1 to 2000 characters."
LIST = "image_urls must be a list of 1 or 2 images."
COUNT = "n must be a whole number from 1 to 4."
FLAG = "force_new must be true or false, without quotes."
MODEL = "model must be wan2.5-image-to-image."
CALLBACK = "callback_url must be a public https:// link of at most 2048 characters."
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"prompt": None}, PROMPT),
    ({"prompt": ""}, PROMPT),
    ({"prompt": " \n\t"}, "prompt is empty."),
    ({"prompt": "p" * 2001}, "prompt has 2001 characters; the limit is 2000."),
    ({"prompt": 5}, PROMPT),
    ({"prompt": ["p"]}, PROMPT),
    ({"prompt": True}, PROMPT),
    ({"prompt": b"p"}, PROMPT),
    ({"image_urls": None}, LIST),
    ({"image_urls": []}, LIST),
    ({"image_urls": [PICTURE] * 3}, LIST),
    ({"image_urls": {"a": PICTURE}}, LIST),
    ({"image_urls": "[1e999]"}, "image_urls[0] must be text."),
    ({"image_urls": [None]}, "image_urls[0] must be text."),
    ({"image_urls": [PICTURE, 5]}, "image_urls[1] must be text."),
    ({"image_urls": ["https://10.0.0.1/b"]},
     "image_urls[0] points to an internal or reserved address."),
    ({"image_urls": [PICTURE, "http://localhost/"]},
     "image_urls[1] points to this computer or a private network."),
    ({"image_urls": [PICTURE + "x" * 8192]},
     "image_urls[0] is a link of more than 8192 characters."),
    ({"n": 0}, COUNT),
    ({"n": 5}, COUNT),
    ({"n": -1}, COUNT),
    ({"n": 1.5}, COUNT),
    ({"n": True}, COUNT),
    ({"n": False}, COUNT),
    ({"n": "5"}, COUNT),
    ({"n": "1.5"}, COUNT),
    ({"n": "two"}, COUNT),
    ({"n": "1" * 5000}, COUNT),
    ({"n": "٢"}, COUNT),
    ({"n": math.nan}, COUNT),
    ({"n": math.inf}, COUNT),
    ({"n": 1e300}, COUNT),
    ({"n": 10**4000}, COUNT),
    ({"n": [1]}, COUNT),
    ({"callback_url": 5}, CALLBACK),
    ({"callback_url": "/done"}, "callback_url is not an absolute URL with a host."),
    ({"callback_url": "http://a.dev/"}, "callback_url must start with https://."),
    ({"callback_url": "https://127.1/"}, "callback_url points to an internal or reserved address."),
    ({"callback_url": "https://a.dev/" + "x" * 2035},
     "callback_url has 2049 characters; the limit is 2048."),
    ({"model": "wan2.5"}, MODEL),
    ({"model": 5}, MODEL),
    ({"force_new": "true"}, FLAG),
    ({"force_new": 1}, FLAG),
    ({"force_new": 0.0}, FLAG),
    ({"size": "1024*1024"}, f"Unknown argument size. Valid arguments: {ARGUMENTS}."),
    (
        {"Prompt": "p"},
        f"Unknown argument Prompt; prompt was probably meant. Valid arguments: {ARGUMENTS}.",
    ),
    ({"sk-live 1234": 1}, f"Unknown argument. Valid arguments: {ARGUMENTS}."),
    ({"a" * 41: 1}, f"Unknown argument. Valid arguments: {ARGUMENTS}."),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "message"), REFUSED, ids=lambda value: repr(value)[:40])
def test_what_the_api_would_refuse_is_refused_here_by_name(
    fields: dict[str, Any], message: str
) -> None:
    assert refusal(EditArguments, {**GOOD, **fields}).message == message


@pytest.mark.parametrize(
    "host",
    ["example.com", "hooks.example.com", "EXAMPLE.ORG.", "a.example", "a.test", "a.invalid"],
)
def test_a_callback_to_nobody_is_refused(host: str) -> None:
    """Models invent these addresses."""
    error = refusal(EditArguments, {**GOOD, "callback_url": f"https://{host}/done"})
    assert "callback_url" in error.message
    assert "reserved" in error.message
    assert "Leave callback_url out" in error.fix


def test_a_callback_to_the_configured_provider_may_have_any_name() -> None:
    given = {**GOOD, "callback_url": "https://gateway.test/done"}
    asked = arguments.read(EditArguments, given, trusted={"https://gateway.test:443"})
    assert asked.callback_url == "https://gateway.test/done"


def test_what_is_missing_is_named() -> None:
    error = refusal(EditArguments, {})
    assert error.message == "prompt is required. image_urls is required."
    assert error.fix == LINKS_FIX


def test_each_wrong_argument_gets_its_sentence() -> None:
    error = refusal(EditArguments, {"prompt": "", "image_urls": [], "n": 9, "size": 1})
    assert error.message == (
        f"{PROMPT} {LIST} {COUNT} Unknown argument size. Valid arguments: {ARGUMENTS}."
    )


def test_links_that_cannot_work_come_with_what_would() -> None:
    assert refusal(EditArguments, {**GOOD, "image_urls": ["http://localhost/"]}).fix == LINKS_FIX


def test_a_lone_surrogate_is_no_text() -> None:
    message = refusal(EditArguments, {**GOOD, "prompt": "\ud800"}).message
    assert message in ("prompt is not valid Unicode text.", PROMPT)


SECRET = "sk-live-SECRET0123456789"


@pytest.mark.parametrize("shape", [SECRET, [SECRET], {SECRET: SECRET}, [[SECRET]], SECRET * 200])
@pytest.mark.parametrize(
    "name", ["prompt", "image_urls", "n", "callback_url", "model", "force_new", "api_key", SECRET]
)
def test_a_secret_in_the_wrong_place_is_never_quoted_back(name: str, shape: object) -> None:
    given = {**GOOD, "n": 9, name: shape}
    error = refusal(EditArguments, given)
    for text in (str(error), error.message, error.fix, repr(error)):
        assert SECRET not in text
        assert "SECRET" not in text
        assert "pydantic" not in text.lower()
        assert "errors.pydantic.dev" not in text


@pytest.mark.parametrize("link", [
    f"https://user:{SECRET}@example.com/", f"https://{SECRET}/",
    f"https://10.0.0.1/?key={SECRET}", f"https://[{SECRET}]/",
])  # fmt: skip
@pytest.mark.parametrize("name", ["image_urls", "callback_url"])
def test_a_secret_in_a_link_is_never_quoted_back(name: str, link: str) -> None:
    error = refusal(EditArguments, {**GOOD, name: [link] if name == "image_urls" else link})
    assert SECRET.lower() not in (error.message + error.fix).lower()


@pytest.mark.parametrize(
    ("given", "task_id"),
    [
        ("task-unified-1757156493-imcg5zqt", "task-unified-1757156493-imcg5zqt"),
        ("edit-0123456789abcdef", "edit-0123456789abcdef"),
        (" `task-1` \n", "task-1"),
        ('"task-1"', "task-1"),
        ("a" * 200, "a" * 200),
    ],
)
def test_a_task_id_is_taken_as_models_write_it(given: str, task_id: str) -> None:
    assert arguments.read(TaskArguments, {"task_id": given}).task_id == task_id


@pytest.mark.parametrize("given", [None, 5, "", "  ", "a/b", "../a", "a b", "a\nb", "a" * 201, "?"])
def test_what_cannot_be_a_task_id_is_refused(given: object) -> None:
    error = refusal(TaskArguments, {"task_id": given})
    assert error.message == "task_id must be a task id as edit_image returned it."
    assert error.fix == (
        "Pass the task_id exactly as edit_image returned it. Nothing was sent or charged."
    )


@pytest.mark.parametrize("seconds", [0, 0.5, 30, 50.0, 86401, 1e300, None])
def test_a_wait_is_any_number_of_seconds(seconds: float | None) -> None:
    asked = arguments.read(WaitArguments, {"task_id": "t", "timeout_seconds": seconds})
    assert asked.timeout_seconds == seconds


@pytest.mark.parametrize("text", ["30", "30.0", " 30"])
def test_a_number_in_quotes_is_a_number_of_seconds(text: str) -> None:
    asked = arguments.read(WaitArguments, {"task_id": "t", "timeout_seconds": text})
    assert asked.timeout_seconds == 30


@pytest.mark.parametrize(
    "seconds", [-1, "-1", "soon", "1e9", True, math.nan, math.inf, -math.inf, []]
)
def test_what_is_no_number_of_seconds_is_refused(seconds: object) -> None:
    error = refusal(WaitArguments, {"task_id": "t", "timeout_seconds": seconds})
    assert error.message == "timeout_seconds must be a number of seconds, 0 or more."


ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=30)
    | st.sampled_from([PICTURE, "https://127.1/", "[1]", '["https://a.example/"]', 2.0, 1e308]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
NAMES = st.sampled_from(ARGUMENTS.split(", ")) | st.text(max_size=8)


def read_or_refuse(given: dict[str, Any]) -> EditArguments | InvalidRequest:
    try:
        return arguments.read(EditArguments, given)
    except InvalidRequest as error:
        return error


@given(st.dictionaries(NAMES, ANYTHING, max_size=7), st.booleans())
def test_any_arguments_are_a_valid_request_or_one_refusal_in_our_words(
    given: dict[str, Any], filled: bool
) -> None:
    asked = read_or_refuse({**GOOD, **given} if filled else given)
    if isinstance(asked, InvalidRequest):
        assert "pydantic" not in asked.message
        assert asked.message.endswith(".")
        assert "\n" not in asked.message
    else:
        wire = asked.with_images(asked.image_urls).content()
        assert 1 <= wire["n"] <= 4
        assert 1 <= len(wire["image_urls"]) <= 2
        assert 1 <= len(wire["prompt"]) <= 2000
        json.dumps(wire, ensure_ascii=False).encode()


@given(st.dictionaries(st.sampled_from(["task_id", "timeout_seconds"]) | st.text(), ANYTHING))
def test_any_arguments_of_a_wait_are_valid_or_refused(given: dict[str, Any]) -> None:
    try:
        asked = arguments.read(WaitArguments, given)
    except InvalidRequest:
        return
    assert asked.timeout_seconds is None or 0 <= asked.timeout_seconds < math.inf


def test_a_trusted_origin_may_be_named_in_an_image_link() -> None:
    given = {**GOOD, "image_urls": ["http://127.0.0.1:8100/files/a.png"]}
    trusted = {"http://127.0.0.1:8100"}
    asked = arguments.read(EditArguments, given, trusted=trusted)
    assert asked.with_images(asked.image_urls).content()["image_urls"] == [
        "http://127.0.0.1:8100/files/a.png"
    ]

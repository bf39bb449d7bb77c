"""What travels: strict requests, lenient answers."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.stage import PICTURE, request
from wan25_mcp.provider.models import (
    CreditReport,
    EditRequest,
    ErrorBody,
    Task,
    TaskError,
    TaskInfo,
    Usage,
)
from wan25_mcp.provider.statuses import Status

CREATED = {
    "created": 1757156493,
    "id": "task-unified-1757156493-imcg5zqt",
    "model": "wan2.5-image-to-image",
    "object": "image.generation.task",
    "progress": 0,
    "status": "pending",
    "task_info": {"can_cancel": True, "estimated_time": 30},
    "type": "image",
    "usage": {"billing_rule": "per_call", "credits_reserved": 1.2, "user_group": "default"},
}
COMPLETED = {
    "created": 1782914405,
    "duration": 41,
    "id": "task-unified-1782914404-w4fcqq0x",
    "model": "wan2.5-image-to-image",
    "object": "image.generation.task",
    "progress": 100,
    "results": ["https://cdn.example/x_0.png"],
    "result_data": [{"url": "https://cdn.example/x_0.png"}],
    "status": "completed",
    "task_info": {"can_cancel": False},
    "type": "image",
    "usage": {"credits_used": 1.5},
}


def test_the_documented_answer_to_a_submit_is_read_whole() -> None:
    assert Task.model_validate(CREATED) == Task(
        id="task-unified-1757156493-imcg5zqt",
        status="pending",
        progress=0,
        created=1757156493,
        model="wan2.5-image-to-image",
        usage=Usage(credits_reserved=1.2, billing_rule="per_call", user_group="default"),
        task_info=TaskInfo(can_cancel=True, estimated_time=30),
    )


def test_the_documented_answer_to_a_query_is_read_whole() -> None:
    task = Task.model_validate(COMPLETED)
    assert task.image_urls == ("https://cdn.example/x_0.png",)
    assert (task.status, task.progress, task.duration) == ("completed", 100, 41)
    assert task.usage == Usage(credits_used=1.5)
    assert task.task_info == TaskInfo(can_cancel=False)


def test_a_failed_task_is_read_with_its_reason() -> None:
    body = {**CREATED, "status": "failed", "error": {"code": "service_error", "message": "No."}}
    assert Task.model_validate(body).error == TaskError(code="service_error", message="No.")


@pytest.mark.parametrize(
    ("fields", "links"),
    [
        ({"results": ["https://a.b/1", "https://a.b/2"]}, ("https://a.b/1", "https://a.b/2")),
        ({"results": ["https://a.b/1", "https://a.b/1"]}, ("https://a.b/1",)),
        ({"results": [], "result_data": [{"url": "https://a.b/1"}]}, ("https://a.b/1",)),
        ({"result_data": {"url": "https://a.b/1"}}, ("https://a.b/1",)),
        ({"result_data": {"images": [{"url": "https://a.b/1"}]}}, ("https://a.b/1",)),
        ({"results": ["https://a.b/1"], "result_data": [{"url": "https://a.b/9"}]},
         ("https://a.b/1",)),
        ({"results": "https://a.b/1"}, ("https://a.b/1",)),
        ({"results": [None, 5, "", "ftp://a.b/1", "/x.png", {"url": None}]}, ()),
        ({"results": None, "result_data": None}, ()),
        ({"results": {"url": ["https://a.b/1"]}}, ("https://a.b/1",)),
        ({"image_urls": ["https://a.b/1"]}, ()),
    ],
)  # fmt: skip
def test_result_links_are_found_in_every_shape_seen(
    fields: dict[str, Any], links: tuple[str, ...]
) -> None:
    assert Task.model_validate({"id": "t", **fields}).image_urls == links


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status", "archived"),
        ("status", None),
        ("status", 7),
        ("progress", -1),
        ("progress", 101),
        ("progress", "soon"),
        ("progress", math.nan),
        ("created", "yesterday"),
        ("created", -1),
        ("created", math.inf),
        ("duration", 10**400),
        ("model", 5),
        ("model", "x" * 5000),
        ("usage", "free"),
        ("usage", {"credits_reserved": "much", "billing_rule": 5, "user_group": []}),
        ("usage", {"credits_used": -1.5}),
        ("usage", {"credits_used": math.nan}),
        ("usage", {"credits_reserved": math.inf}),
        ("task_info", []),
        ("task_info", {"can_cancel": "perhaps", "estimated_time": "soon"}),
        ("error", 5),
        ("type", "hologram"),
        ("novelty", {"deep": [1, 2]}),
    ],
)
def test_a_field_that_is_nonsense_does_not_lose_the_task(field: str, value: object) -> None:
    task = Task.model_validate({**COMPLETED, field: value})
    assert task.id == COMPLETED["id"]
    assert task.image_urls == ("https://cdn.example/x_0.png",)
    assert "nan" not in task.model_dump_json().lower()
    json.loads(task.model_dump_json())


@pytest.mark.parametrize(
    "task_id",
    [None, 5, "", " ", "a/b", "../x", "a b", "a\n", "-a", ".a", "a?b", "a#b", "ä", "a" * 201, {}],
)
def test_a_task_without_a_usable_id_is_no_task(task_id: object) -> None:
    with pytest.raises(ValidationError):
        Task.model_validate({**CREATED, "id": task_id})


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**30)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["completed", "failed", "https://a.b/1", "task-1", "retry after 5 seconds"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["id", "status", "progress", "results", "result_data", "url", "usage", "error",
                 "code", "message", "type", "param", "created", "duration", "task_info", "data",
                 "token", "user", "remaining_credits", "credits_used", "fallback_suggestion"]
            )
            | st.text(max_size=5),
            inner,
            max_size=6,
        )
    ),
    max_leaves=25,
)  # fmt: skip


@given(JSON)
def test_any_json_is_a_task_or_a_validation_error(body: Any) -> None:
    try:
        task = Task.model_validate(body)
    except ValidationError:
        return
    assert json.loads(task.model_dump_json())["id"] == task.id


@given(st.dictionaries(st.sampled_from(sorted(COMPLETED)), JSON))
def test_any_json_in_any_field_of_a_task_leaves_a_task(fields: dict[str, Any]) -> None:
    fields.pop("id", None)
    assert Task.model_validate({**COMPLETED, **fields}).id == COMPLETED["id"]


@given(JSON)
def test_any_json_reads_as_an_error_body_or_as_credits(body: Any) -> None:
    said = ErrorBody.model_validate(body)
    assert said.wait_seconds is None or said.wait_seconds >= 0
    CreditReport.model_validate(body if isinstance(body, dict) else {})


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"error": {"code": 400, "message": "Invalid", "type": "x"}}, "400", "Invalid"),
        ({"error": {"code": "quota_exceeded", "message": "Q"}}, "quota_exceeded", "Q"),
        ({"message": "Resource exhausted", "type": "", "param": "", "code": 429}, "429",
         "Resource exhausted"),
        ({"error": "No."}, None, "No."),
        ("No.", None, "No."),
        ({"error": None}, None, None),
        ({"error": {"code": True, "message": 5}}, None, None),
        ([], None, None),
        (None, None, None),
    ],
)  # fmt: skip
def test_an_error_body_is_read_with_or_without_its_envelope(
    body: Any, code: str | None, message: str | None
) -> None:
    said = ErrorBody.model_validate(body)
    assert (said.code, said.message) == (code, message)


@pytest.mark.parametrize(
    ("suggestion", "seconds"),
    [
        ("retry after 60 seconds", 60.0),
        ("Retry after 1 second", 1.0),
        ("please retry after 30 seconds.", 30.0),
        ("try again later", None),
        ("retry after a while", None),
        ("retry after 99999999999 seconds", None),
        ("wan2.5-image-to-image", None),
        ("", None),
    ],
)
def test_the_wait_is_read_from_the_suggestion(suggestion: str, seconds: float | None) -> None:
    body = {"error": {"fallback_suggestion": suggestion}}
    assert ErrorBody.model_validate(body).wait_seconds == seconds


# --- the request -----------------------------------------------------------------------------


def test_the_body_of_a_submit_holds_the_documented_fields_and_always_n() -> None:
    assert request().wire() == {
        "prompt": "Make it night",
        "image_urls": [PICTURE],
        "n": 1,
        "model": "wan2.5-image-to-image",
    }


def test_a_callback_is_sent_when_given() -> None:
    assert request(callback_url="https://example.com/done").wire()["callback_url"] == (
        "https://example.com/done"
    )


@pytest.mark.parametrize("status", ["submitting", "pending", "completed", "unknown"])
def test_a_task_can_be_written_and_read_again(status: Status) -> None:
    task = Task.model_validate({**COMPLETED, "status": status})
    again = Task.model_validate({**task.model_dump(mode="json"), "results": task.image_urls[:]})
    assert again.id == task.id
    assert again.status == ("unknown" if status == "submitting" else status)


def test_a_request_cannot_be_changed_after_it_was_checked() -> None:
    with pytest.raises(ValidationError):
        request().n = 4


def test_unknown_fields_of_a_request_are_refused() -> None:
    with pytest.raises(ValidationError):
        EditRequest.model_validate({"prompt": "p", "image_urls": [PICTURE], "size": "1024*1024"})

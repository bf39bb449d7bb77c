"""Every rule of a submit, and the shape of every refusal."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_blocking")]
MODEL = "wan2.5-image-to-image"
GOOD = {"model": MODEL, "prompt": "p", "image_urls": ["https://example.com/1.png"], "n": 1}


async def test_a_good_submit_is_answered_with_the_documented_task(play: Any) -> None:
    async with play(clock=lambda: 1757156493.7, price=1.2) as p:
        answer = await p.submit()
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert len(answer.headers["x-request-id"]) == 16
        task_id = answer.json()["id"]
        assert answer.json() == {
            "created": 1757156493,
            "id": task_id,
            "model": MODEL,
            "object": "image.generation.task",
            "progress": 0,
            "status": "pending",
            "task_info": {"can_cancel": True, "estimated_time": 30},
            "type": "image",
            "usage": {
                "billing_rule": "per_call",
                "credits_reserved": 1.2,
                "user_group": "default",
            },
        }
        prefix, suffix = task_id.rsplit("-", 1)
        assert prefix == "task-unified-1757156493"
        assert len(suffix) == 8


async def test_the_same_seed_gives_the_same_ids(play: Any) -> None:
    found = []
    for _ in range(2):
        async with play(seed=7, clock=lambda: 1.8e9) as p:
            found.append([await p.accepted(), await p.accepted()])
    assert found[0] == found[1]
    assert len(set(found[0])) == 2


BAD_FIELDS: list[tuple[str, Any, str]] = [
    ("model", None, "model must be a string"),
    ("model", "", "model is required"),
    ("model", 5, "model must be a string"),
    ("prompt", None, "prompt must be a string"),
    ("prompt", "", "prompt is required"),
    ("prompt", ["a"], "prompt must be a string"),
    ("prompt", "a" * 2001, "prompt must be at most 2000 characters"),
    ("prompt", "\ud800", "prompt must be a string"),
    ("image_urls", None, "image_urls must be an array of 1 to 2 URLs"),
    ("image_urls", [], "image_urls must be an array of 1 to 2 URLs"),
    ("image_urls", ["https://a.example/1"] * 3, "image_urls must be an array of 1 to 2 URLs"),
    ("image_urls", "https://a.example/1", "image_urls must be an array of 1 to 2 URLs"),
    ("image_urls", [5], "image_urls must hold http or https URLs"),
    ("image_urls", ["/home/me/cat.png"], "image_urls must hold http or https URLs"),
    ("image_urls", ["file:///tmp/cat.png"], "image_urls must hold http or https URLs"),
    ("image_urls", ["data:image/png;base64,AAAA"], "image_urls must hold http or https URLs"),
    ("image_urls", ["https://"], "image_urls must hold http or https URLs"),
    ("image_urls", ["https://a.example:port/"], "image_urls must hold http or https URLs"),
    ("image_urls", ["https://a.example/\n1"], "image_urls must hold http or https URLs"),
    ("n", 0, "n must be an integer between 1 and 4"),
    ("n", 5, "n must be an integer between 1 and 4"),
    ("n", -1, "n must be an integer between 1 and 4"),
    ("n", 1.5, "n must be an integer between 1 and 4"),
    ("n", 5.0, "n must be an integer between 1 and 4"),
    ("n", True, "n must be an integer between 1 and 4"),
    ("n", "2", "n must be an integer between 1 and 4"),
    ("callback_url", "http://a.example/", "callback_url refused: only HTTPS is supported"),
    ("callback_url", "https://127.0.0.1/", "callback_url refused: internal address"),
    ("callback_url", "https://10.1.2.3/", "callback_url refused: internal address"),
    ("callback_url", "https://172.16.0.1/", "callback_url refused: internal address"),
    ("callback_url", "https://172.31.255.1/", "callback_url refused: internal address"),
    ("callback_url", "https://192.168.1.1/", "callback_url refused: internal address"),
    ("callback_url", "https://169.254.169.254/", "callback_url refused: internal address"),
    ("callback_url", "https://[::1]/", "callback_url refused: internal address"),
    ("callback_url", "https://[::ffff:10.0.0.1]/", "callback_url refused: internal address"),
    ("callback_url", "https://localhost/", "callback_url refused: internal address"),
    ("callback_url", "https://db.internal/", "callback_url refused: internal address"),
    ("callback_url", "https://2130706433/", "callback_url refused: internal address"),
    (
        "callback_url",
        "https://a.example/" + "x" * 2031,
        "callback_url refused: longer than 2048 characters",
    ),
    (
        "callback_url",
        "ftp://a.example/",
        "callback_url refused: only http and https links are supported",
    ),
    ("callback_url", 5, "callback_url refused: not a string"),
]


@pytest.mark.parametrize(("field", "value", "message"), BAD_FIELDS)
async def test_a_bad_field_is_refused_by_name_and_nothing_is_reserved(
    play: Any, field: str, value: Any, message: str
) -> None:
    async with play() as p:
        body = json.dumps({k: v for k, v in (GOOD | {field: value}).items() if v is not None})
        answer = await p.client.post(
            "v1/images/generations", content=body, headers={"content-type": "application/json"}
        )
        assert answer.status_code == 400
        assert answer.json() == {
            "error": {
                "code": 400,
                "message": message,
                "type": "invalid_request_error",
                "param": field,
            }
        }
        assert p.emulator.ledger.charges == 0
        assert [(s.accepted, s.status) for s in p.emulator.submits] == [(False, 400)]


@pytest.mark.parametrize(
    "field",
    [
        {"prompt": "a" * 2000},
        {"prompt": "换" * 2000},
        {"n": 4},
        {"n": 2.0},
        {"image_urls": ["http://a.example/1.png", "https://b.example/2.webp?x=1"]},
        {"callback_url": "https://hooks.example/done"},
        {"callback_url": "https://a.example/" + "x" * 2030},
        {"size": "1024x1024"},
    ],
)
async def test_what_the_rules_allow_is_accepted(play: Any, field: dict[str, Any]) -> None:
    async with play() as p:
        assert (await p.submit(**field)).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"nonsense",
        b"\xff\xfe",
        b'{"prompt": "\xe4"}',
        b'{"n": NaN}',
        b'{"n": Infinity}',
        b'{"n": 1, "n": 2}',
        b"[" * 100_000,
        b'{"n": ' + b"9" * 5000 + b"}",
    ],
    ids=lambda body: repr(body[:12]),
)
async def test_a_body_that_is_no_json_object_is_an_invalid_format(play: Any, body: bytes) -> None:
    async with play() as p:
        answer = await p.client.post(
            "v1/images/generations", content=body, headers={"content-type": "application/json"}
        )
        assert answer.status_code == 400
        assert answer.json() == {
            "error": {
                "code": 400,
                "message": "Invalid request format",
                "type": "invalid_request_error",
            }
        }


async def test_a_form_is_not_json(play: Any) -> None:
    async with play() as p:
        answer = await p.client.post("v1/images/generations", data={"model": MODEL})
        assert answer.status_code == 400


async def test_a_body_above_a_megabyte_is_too_large(play: Any) -> None:
    async with play() as p:
        answer = await p.submit(padding="x" * 1024 * 1024)
        assert answer.status_code == 413
        assert answer.json()["error"]["message"] == "Request too large"
        assert p.emulator.ledger.charges == 0


async def test_without_n_four_images_are_paid_for(play: Any) -> None:
    async with play() as p:
        answer = await p.submit(n=None)
        assert answer.json()["usage"]["credits_reserved"] == 6


REFUSALS: list[
    tuple[dict[str, Any], dict[str, str], dict[str, Any], dict[str, Any], dict[str, Any]]
]
REFUSALS = [
    (
        {},
        {"authorization": "Bearer wrong"},
        {},
        {
            "code": 401,
            "message": "Invalid authentication credentials",
            "type": "authentication_error",
        },
        {
            "code": "unauthorized",
            "message": "Invalid authentication credentials",
            "type": "authentication_error",
        },
    ),
    (
        {"balance": 1.4},
        {},
        {},
        {"code": 402, "message": "Insufficient credits", "type": "insufficient_quota_error"},
        {"code": "quota_exceeded", "message": "Insufficient credits", "type": "insufficient_quota"},
    ),
    (
        {"denied_keys": ["no-model"]},
        {"authorization": "Bearer no-model"},
        {},
        {
            "code": 403,
            "message": "Access denied for this model",
            "type": "permission_error",
            "param": "model",
        },
        {
            "code": "permission_denied",
            "message": "Access denied for this model",
            "type": "permission_error",
            "param": "model",
        },
    ),
    (
        {},
        {},
        {"model": "wan2.6"},
        {
            "code": 404,
            "message": "Specified model not found",
            "type": "not_found_error",
            "param": "model",
            "fallback_suggestion": MODEL,
        },
        {
            "code": "model_not_found",
            "message": "Specified model not found",
            "type": "not_found_error",
            "param": "model",
        },
    ),
    (
        {"rate_limit": 0},
        {},
        {},
        {
            "code": 429,
            "message": "Rate limit exceeded",
            "type": "rate_limit_error",
            "fallback_suggestion": "retry after 60 seconds",
        },
        {
            "code": "rate_limit_exceeded",
            "message": "Rate limit exceeded",
            "type": "rate_limit_error",
        },
    ),
]


@pytest.mark.parametrize("generation", ["specification", "later"])
@pytest.mark.parametrize(
    ("switches", "headers", "fields", "specified", "later"),
    REFUSALS,
    ids=["401", "402", "403", "404", "429"],
)
async def test_each_refusal_is_answered_in_its_generation(
    play: Any,
    generation: str,
    switches: dict[str, Any],
    headers: dict[str, str],
    fields: dict[str, Any],
    specified: dict[str, Any],
    later: dict[str, Any],
) -> None:
    async with play(generation=generation, **switches) as p:
        p.client.headers.update(headers)
        answer = await p.submit(**fields)
        expected = specified if generation == "specification" else later
        assert answer.json() == {"error": expected}
        assert answer.status_code == specified["code"]
        assert p.emulator.tasks == {}
        assert p.emulator.ledger.charges == 0


@pytest.mark.parametrize("credentials", [None, "", "emulator-key", "Basic emulator-key", "Bearer "])
async def test_only_a_bearer_key_is_a_key(play: Any, credentials: str | None) -> None:
    async with play() as p:
        del p.client.headers["authorization"]
        headers = {} if credentials is None else {"authorization": credentials}
        for path in ("v1/credits", "v1/tasks/task-unified-1-a"):
            assert (await p.client.get(path, headers=headers)).status_code == 401


async def test_any_key_will_do_when_none_is_set(play: Any) -> None:
    async with play(key=None) as p:
        answer = await p.client.get("v1/credits", headers={"authorization": "bearer whatever"})
        assert answer.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "v1/images/generations", 405),
        ("DELETE", "v1/tasks/task-unified-1-abcdefgh", 405),
        ("POST", "v1/credits", 405),
        ("GET", "v1/models", 404),
        ("GET", "v1/credits/", 404),
        ("POST", "http://emulator.test/v1/images/generations", 404),
    ],
)
async def test_other_methods_and_addresses_are_refused_in_the_envelope(
    play: Any, method: str, path: str, status: int
) -> None:
    async with play() as p:
        answer = await p.client.request(method, path)
        assert answer.status_code == status
        assert answer.json()["error"]["code"] == status
        assert "x-request-id" in answer.headers


async def test_the_record_of_a_submit_keeps_what_was_sent(play: Any) -> None:
    async with play() as p:
        answer = await p.client.post(
            "v1/images/generations", json=GOOD, headers={"Idempotency-Key": "k-1"}
        )
        (record,) = p.emulator.submits
        assert record.body == GOOD
        assert record.headers["idempotency-key"] == "k-1"
        assert record.headers["authorization"] == "Bearer emulator-key"
        assert (record.accepted, record.status) == (True, 200)
        assert record.task_id == answer.json()["id"]
        assert "authorization" not in record.summary()["headers"]


async def test_an_idempotency_key_means_nothing_unless_switched_on(play: Any) -> None:
    async with play() as p:
        p.client.headers["idempotency-key"] = "once"
        first, second = await p.submit(), await p.submit()
        assert first.json()["id"] != second.json()["id"]
        assert "idempotency-replayed" not in second.headers
        assert p.emulator.ledger.charges == 2


async def test_switched_on_a_repeated_key_gets_the_first_task_again(play: Any) -> None:
    async with play(idempotency=True) as p:
        p.client.headers["idempotency-key"] = "once"
        first, second = await p.submit(), await p.submit(prompt="another")
        assert second.json() == first.json()
        assert second.headers["idempotency-replayed"] == "true"
        assert p.emulator.ledger.charges == 1
        assert [s.replayed for s in p.emulator.submits] == [False, True]
        p.client.headers["idempotency-key"] = "twice"
        assert (await p.submit()).json()["id"] != first.json()["id"]

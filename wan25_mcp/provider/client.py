"""One method for each endpoint of the provider, over an injected HTTP client. No policy.

Nothing is retried or remembered here. Each call returns what the provider answered, or raises an
error that says what happened, what it cost, and whether the same request can succeed later. Runs on
asyncio and trio.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, Final, NoReturn
from urllib.parse import quote

import httpx2
from pydantic import SecretStr, ValidationError

from wan25_mcp.errors import (
    InvalidRequest,
    OutcomeUnknown,
    ReadFailed,
    Refused,
    Unreachable,
    query_advice,
    status_advice,
)
from wan25_mcp.errors.codes import CODES
from wan25_mcp.errors.rows import ErrorCode
from wan25_mcp.provider import charging
from wan25_mcp.provider.dashboard import about_key, naming_dashboard, with_dashboard
from wan25_mcp.provider.exchange import Exchange, cause_of, send
from wan25_mcp.provider.models import TASK_ID, CreditReport, EditRequest, Task
from wan25_mcp.redaction import Redactor, one_line

Advise = Callable[[int], ErrorCode]
"""What an HTTP status means, for one kind of request."""

# With these errors, no byte of the request was sent.
_NEVER_SENT: Final = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
    httpx2.LocalProtocolError,
)


class Client:
    """The provider's API.

    Args:
        http: The HTTP client to use; the caller opens and closes it.
        base_url: The base of the API, path included, such as `https://ai.odkkk.com/apiv1`.
        key: The API key; sent to `base_url` only.
        secrets: More texts to hide in the provider's texts.
        key_source: Where the key comes from (`Settings.key_source`), for the error about it.
    """

    def __init__(
        self,
        http: httpx2.AsyncClient,
        *,
        base_url: str,
        key: SecretStr,
        secrets: Collection[str] = (),
        key_source: str = "",
    ) -> None:
        self._http = http
        self._base = base_url.rstrip("/")
        self._key = key
        self._key_source = key_source
        self._redact = Redactor([key.get_secret_value(), *secrets])

    async def submit(self, request: EditRequest, *, idempotency_key: str) -> Task:
        """Start an edit. This is the call that costs money.

        `idempotency_key` is sent because the vendor's newest client sends one [C]. No documentation
        says that it is honoured, so it does not make it safe to send a submit twice.

        Raises:
            Unreachable: Nothing was sent.
            Refused: The provider refused; nothing was charged.
            OutcomeUnknown: The edit may have been accepted and charged.
        """
        with naming_dashboard(self._base):
            return await self._submit(request, idempotency_key)

    async def _submit(self, request: EditRequest, idempotency_key: str) -> Task:
        exchange = Exchange(self._redact)
        try:
            await send(
                self._http,
                exchange,
                "POST",
                # Joined as text: urljoin would drop the path of the base.
                self._base + "/v1/images/generations",
                key=self._key,
                headers={"Idempotency-Key": idempotency_key},
                json=request.wire(),
            )
        except httpx2.HTTPError as error:
            # A status line is an answer, even if its body is incomplete.
            if exchange.status is None:
                raise _submit_broke(exchange, error) from error
        if exchange.status is not None and 200 <= exchange.status < 300:
            return _created(exchange)
        raise _submit_answered(exchange, self._advice(exchange, status_advice))

    async def query(self, task_id: str) -> Task:
        """Poll a task.

        Raises:
            InvalidRequest: The id cannot be one of the provider's.
            Unreachable: Nothing was sent.
            Refused: The provider refuses to show the task, or does not know it.
            ReadFailed: No usable answer came; the task itself is unaffected.
        """
        if not TASK_ID.fullmatch(task_id):
            raise InvalidRequest(
                "task_id is not the id of a task.",
                fix="Pass the task_id exactly as edit_image returned it.",
            )
        exchange = await self._read(f"/v1/tasks/{quote(task_id, safe='')}", query_advice)
        body = exchange.json
        if not isinstance(body, dict) or "status" not in body:
            raise _unreadable(exchange)  # also an error under a 200
        if _names_another(body.get("id"), task_id):
            raise _unreadable(exchange)
        try:
            # With the requested id: a malformed echo of it must not lose a result.
            return Task.model_validate({**body, "id": task_id}, context=exchange.context)
        except ValidationError:
            raise _unreadable(exchange) from None

    async def credits(self) -> CreditReport:
        """The credits left; free of charge.

        Raises:
            Unreachable: Nothing was sent.
            Refused: The provider refused, for example because of the key.
            ReadFailed: No usable answer came.
        """
        exchange = await self._read("/v1/credits")
        body = exchange.json
        if not isinstance(body, dict) or not isinstance(body.get("data"), dict):
            raise _unreadable(exchange)
        return CreditReport.model_validate(body["data"])

    async def _read(self, path: str, advise: Advise = status_advice) -> Exchange:
        exchange = Exchange(self._redact)
        try:
            await send(self._http, exchange, "GET", self._base + path, key=self._key)
        except httpx2.HTTPError as error:
            _read_broke(exchange, error)
        if exchange.status is None or not 200 <= exchange.status < 300:
            _read_answered(exchange, self._advice(exchange, advise))
        return exchange

    def _advice(self, exchange: Exchange, advise: Advise) -> ErrorCode:
        """What the status means, with the dashboard of this API in the remedy."""
        advice = about_key(advise(exchange.status or 0), self._key_source)
        return replace(advice, fix=with_dashboard(advice.fix, self._base))


def read_callback(body: bytes) -> str | None:
    """The task id in a callback's body. It is a hint, and nothing else in the body is used."""
    try:
        parsed: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    name = parsed.get("id") if isinstance(parsed, dict) else None
    return name if isinstance(name, str) and TASK_ID.fullmatch(name) else None


# --- turning an exchange into an answer or an error ------------------------------------------


def _created(exchange: Exchange) -> Task:
    try:
        return Task.model_validate(exchange.json, context=exchange.context)
    except ValidationError:
        raise OutcomeUnknown(
            "The provider's answer to the submit contains no task id.",
            code="unreadable_answer",
            request_id=exchange.request_id,
        ) from None


def _submit_broke(exchange: Exchange, error: httpx2.HTTPError) -> Unreachable | OutcomeUnknown:
    sent = exchange.sent or not isinstance(error, _NEVER_SENT)
    if charging.verdict(sent=sent, status=None).charged == "no":
        return _unreachable(error)
    return OutcomeUnknown(
        f"The connection failed after the edit was sent ({cause_of(error)}), so it may or may "
        "not have been accepted.",
        code="outcome_unknown",
        request_id=exchange.request_id,
    )


def _submit_answered(exchange: Exchange, advice: ErrorCode) -> Refused | OutcomeUnknown:
    status = exchange.status or 0
    own_error = charging.is_own_error(status, exchange.json)
    verdict = charging.verdict(sent=True, status=status, own_error=own_error)
    if verdict.charged == "no":
        return _refusal(exchange, advice, retryable=verdict.resend)
    return OutcomeUnknown(
        f"{_message(exchange, advice)} The edit may or may not have been accepted.",
        code="outcome_unknown",
        request_id=exchange.request_id,
    )


def _read_broke(exchange: Exchange, error: httpx2.HTTPError) -> NoReturn:
    if isinstance(error, _NEVER_SENT) and not exchange.sent:
        raise _unreachable(error) from error
    raise ReadFailed(
        f"The provider's answer did not arrive ({cause_of(error)}).",
        code="read_failed",
        request_id=exchange.request_id,
    ) from error


def _read_answered(exchange: Exchange, advice: ErrorCode) -> NoReturn:
    status = exchange.status or 0
    if status >= 500 or status in (408, 429):
        raise ReadFailed(
            _message(exchange, advice),
            code=advice.code,
            fix=CODES["read_failed"].fix,
            retryable=True,
            retry_after_seconds=exchange.requested_wait,
            request_id=exchange.request_id,
        )
    refusal = _refusal(exchange, advice, retryable=False)
    if status == 404 and exchange.error.type != "not_found_error":
        refusal.charged = "unknown"  # by a gateway or at a wrong address: the task may exist
    raise refusal


def _names_another(name: object, task_id: str) -> bool:
    """Whether an answer is about another task, because two answers were mixed up."""
    return isinstance(name, str) and TASK_ID.fullmatch(name) is not None and name != task_id


def _unreadable(exchange: Exchange) -> ReadFailed:
    return ReadFailed(
        "The answer is not one of the provider's API.",
        code="unreadable_answer",
        fix="Call again. If this repeats, check WAN25_BASE_URL.",
        retryable=True,
        request_id=exchange.request_id,
        charged="no",
    )


def _unreachable(error: httpx2.HTTPError) -> Unreachable:
    return Unreachable(
        f"The provider could not be reached ({cause_of(error)}); nothing was sent.",
        code="unreachable",
    )


def _refusal(exchange: Exchange, advice: ErrorCode, *, retryable: bool) -> Refused:
    return Refused(
        _message(exchange, advice),
        code=advice.code,
        fix=advice.fix,
        retryable=retryable,
        retry_after_seconds=exchange.requested_wait,
        request_id=exchange.request_id,
    )


def _message(exchange: Exchange, advice: ErrorCode) -> str:
    """The sentence for the status, with the provider's own message if there is one."""
    error = exchange.error
    sentence = f"{advice.sentence} (HTTP {exchange.status})"
    message = one_line(error.message, 300).rstrip(".")
    about = f" [{one_line(error.param, 40)}]" if error.param else ""
    return f"{sentence}: {message}{about}." if message else f"{sentence}."

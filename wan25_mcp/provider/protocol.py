"""What the product needs of a provider. `Client` is the only implementation.

The meaning of an error is part of the protocol: every failure is a `Wan25Error` whose `code`,
`charged` and `retryable` say what happened, what it cost, and whether the same call can succeed
later. Callers never see an HTTP status. The models are rows of `catalogue`. Callbacks are read by
`client.read_callback`, which needs no connection.
"""

from __future__ import annotations

from typing import Protocol

from wan25_mcp.provider.models import CreditReport, EditRequest, Task


class Provider(Protocol):
    """Sends exactly one request for each call."""

    async def submit(self, request: EditRequest, *, idempotency_key: str) -> Task:
        """Start an edit. This is the call that costs money.

        Raises:
            Unreachable, Refused: Nothing was charged.
            OutcomeUnknown: The edit may have been accepted and charged.
        """

    async def query(self, task_id: str) -> Task:
        """Poll a task.

        Raises:
            InvalidRequest: The id cannot be one of this provider's.
            Unreachable, Refused, ReadFailed: There is no answer; the task itself is unaffected.
        """

    async def credits(self) -> CreditReport:
        """The credits left; free of charge.

        Raises:
            Unreachable, Refused, ReadFailed: No usable answer came.
        """

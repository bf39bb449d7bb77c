"""What the product needs of a provider: the seam for another one. `Client` is the one there is.

What an error means is part of the promise: whatever goes wrong is a `Wan25Error` whose `code`,
`charged` and `retryable` say what happened, what it cost, and whether the same call can succeed
later. Who calls this never sees a status of HTTP. The models that a provider offers are rows of the
`catalogue`, and what a callback names is told by `client.read_callback`, which needs no connection.
"""

from __future__ import annotations

from typing import Protocol

from wan25_mcp.provider.models import CreditReport, EditRequest, Task


class Provider(Protocol):
    """Sends one request for each call, and never a second."""

    async def submit(self, request: EditRequest, *, idempotency_key: str) -> Task:
        """Start an edit. This is the call that costs money.

        Raises:
            Unreachable, Refused: Nothing was charged.
            OutcomeUnknown: The edit may have been accepted and charged.
        """

    async def query(self, task_id: str) -> Task:
        """The task as it is now.

        Raises:
            InvalidRequest: The id cannot be one of this provider's.
            Unreachable, Refused, ReadFailed: It was not shown; the task itself is unaffected.
        """

    async def credits(self) -> CreditReport:
        """The credits left; free of charge.

        Raises:
            Unreachable, Refused, ReadFailed: No usable answer came.
        """

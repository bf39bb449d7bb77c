"""The served description against what is played: fuzzed, in both generations of errors."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import (
    ignored_auth,
    negative_data_rejection,
    positive_data_acceptance,
)

from tests.emulator_lab import Emulator

KEY = {"authorization": "Bearer emulator-key"}
FUZZING = settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
OPERATIONS = (
    ("POST", "/apiv1/v1/images/generations"),
    ("GET", "/apiv1/v1/tasks/{task_id}"),
    ("GET", "/apiv1/v1/credits"),
    ("GET", "/api/v1/files/quota"),
    ("POST", "/api/v1/files/upload/base64"),
    ("POST", "/api/v1/files/upload/stream"),
)
# No schema says what an image is, and in a form every value is text.
EXCEPTIONS: dict[str, tuple[Any, ...]] = {
    "/api/v1/files/upload/base64": (positive_data_acceptance,),
    "/api/v1/files/upload/stream": (positive_data_acceptance, negative_data_rejection),
}
GOOD, BAD = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
# There is nothing to spoil in a path, and less in no body.
RUNS = [
    (how, *where) for where in OPERATIONS for how in (GOOD, BAD) if (how, where[0]) != (BAD, "GET")
]


@pytest.mark.parametrize("generation", ["specification", "later"])
@pytest.mark.parametrize(("mode", "method", "path"), RUNS)
def test_every_answer_is_as_described(generation: Any, mode: Any, method: str, path: str) -> None:
    emulator = Emulator(generation=generation, balance=1e9, check_images=False, run_seconds=0)
    schema = schemathesis.openapi.from_asgi("/openapi.json", emulator.app)
    excluded = [ignored_auth, *EXCEPTIONS.get(path, ())]

    @FUZZING
    @given(case=schema[path][method].as_strategy(generation_mode=mode))
    def fuzz(case: Any) -> None:
        case.call_and_validate(headers=KEY, excluded_checks=excluded)

    fuzz()
    assert {submit.status for submit in emulator.submits} <= {200, 400, 401, 404}

"""The served description against what is played: fuzzed, in both generations of errors."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from wan25_mcp.emulator import Emulator

KEY = {"authorization": "Bearer emulator-key"}
FUZZING = settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
OPERATIONS = (
    ("POST", "/apiv1/v1/images/generations"),
    ("GET", "/apiv1/v1/tasks/{task_id}"),
    ("GET", "/apiv1/v1/credits"),
    ("POST", "/api/v1/files/upload/base64"),
    ("POST", "/api/v1/files/upload/stream"),
)
MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)


@pytest.mark.parametrize("generation", ["specification", "later"])
@pytest.mark.parametrize("mode", MODES, ids=["good", "bad"])
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_answer_is_as_described(generation: Any, mode: Any, method: str, path: str) -> None:
    emulator = Emulator(generation=generation, balance=1e9, check_images=False, run_seconds=0)
    schema = schemathesis.openapi.from_asgi("/openapi.json", emulator.app)
    if (method, mode) == ("GET", schemathesis.GenerationMode.NEGATIVE):
        pytest.skip("nothing to spoil in a path or in no body")

    @FUZZING
    @given(case=schema[path][method].as_strategy(generation_mode=mode))
    def fuzz(case: Any) -> None:
        case.call_and_validate(headers=KEY)

    fuzz()
    assert all(submit.status in (200, 400, 404) for submit in emulator.submits)

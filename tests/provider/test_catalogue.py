"""The models as data."""

from __future__ import annotations

from typing import get_args

import pytest

from wan25_mcp.provider.catalogue import DEFAULT, MODELS, ModelName, model_named


def test_every_model_has_its_row() -> None:
    assert set(MODELS) == set(get_args(ModelName))


@pytest.mark.parametrize("name", [None, "", "a-model-of-tomorrow"])
def test_an_unknown_model_counts_as_the_default(name: str | None) -> None:
    assert model_named(name) == DEFAULT
    assert model_named(DEFAULT.name) == DEFAULT


def test_what_a_linked_image_must_be_is_said_in_words() -> None:
    for word in ("JPEG", "PNG without transparency", "10 MB", "384-5000 px"):
        assert word in DEFAULT.image_rules

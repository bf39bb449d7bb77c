"""What is listed: the forms that the converters of clients take. Tried with openai-agents 0.24
(strict), openai 3.57, google-genai 2.34, ADK 2.13, LangChain (strict) and anthropic 2.14."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from scripts import generate
from wan25_mcp.editing.answers import Answer, answer_of
from wan25_mcp.editing.arguments import EditArguments, TaskArguments, WaitArguments
from wan25_mcp.editing.edit import Edit
from wan25_mcp.errors import Wan25Error
from wan25_mcp.provider.models import Usage
from wan25_mcp.server.schemas import describe, input_schema, output_schema

MODELS = [EditArguments, TaskArguments, WaitArguments]
STRICT = {
    "type", "properties", "required", "description", "anyOf", "enum", "items", "default",
    "minimum", "maximum", "minItems", "maxItems",
}  # fmt: skip
"""The keywords of a strict schema at OpenAI, where a default may only be null."""
MOST_TOKENS = 1700
CHARACTERS_A_TOKEN = 4.2
"""Of these schemas, by the encoding o200k_base."""


def keywords(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in schema.items():
        yield key, value
        inner = value.values() if key == "properties" else value if key == "anyOf" else [value]
        for one in inner if key in ("properties", "anyOf", "items") else ():
            yield from keywords(one)


@pytest.mark.parametrize("model", MODELS)
def test_only_keywords_that_every_converter_takes_are_listed(model: Any) -> None:
    listed = list(keywords(input_schema(model)))
    assert {key for key, _ in listed} <= STRICT
    assert all(value is None for key, value in listed if key == "default")
    assert all(isinstance(value, str) for key, value in listed if key == "type")


@pytest.mark.parametrize("model", MODELS)
def test_an_optional_argument_may_be_null_and_says_what_it_is_in_both_places(model: Any) -> None:
    schema = input_schema(model)
    optional = set(schema["properties"]) - set(schema["required"])
    for name in optional:
        rule = schema["properties"][name]
        assert (rule["default"], rule["anyOf"][1]) == (None, {"type": "null"})
        assert rule["anyOf"][0].get("description") == rule.get("description")
    assert optional == {name for name, rule in model.model_fields.items() if not rule.is_required()}


def test_bounds_are_listed_and_in_words() -> None:
    rules = input_schema(EditArguments)["properties"]
    n = rules["n"]["anyOf"][0]
    assert (n["minimum"], n["maximum"]) == (1, 4)
    assert "1-4, default 1" in rules["n"]["description"]
    assert (rules["image_urls"]["minItems"], rules["image_urls"]["maxItems"]) == (1, 2)
    assert "1-2 images" in rules["image_urls"]["description"]
    assert "2000 characters" in rules["prompt"]["description"]
    assert rules["model"]["anyOf"][0]["enum"] == ["wan2.5-image-to-image"]
    assert "null unless the user gave" in rules["callback_url"]["description"]
    assert input_schema(EditArguments)["required"] == ["prompt", "image_urls"]


def test_a_wait_has_no_maximum() -> None:
    """A longer one is cut, as its description says; a maximum would have clients refuse it."""
    assert "maximum" not in dict(keywords(input_schema(WaitArguments)))


def test_a_description_is_replaced_in_both_places() -> None:
    schema = input_schema(WaitArguments)
    describe(schema, "timeout_seconds", "So long.")
    rule = schema["properties"]["timeout_seconds"]
    assert rule["description"] == rule["anyOf"][0]["description"] == "So long."
    describe(schema, "task_id", "This one.")
    assert schema["properties"]["task_id"] == {"type": "string", "description": "This one."}


def test_every_field_of_an_answer_is_described_and_has_its_type() -> None:
    schema = output_schema(Answer)
    assert set(schema["properties"]) == set(Answer.model_fields)
    for rule in schema["properties"].values():
        assert rule["description"]
        assert "type" in rule or "enum" in rule


@pytest.mark.parametrize(
    "edit",
    [
        Edit(task_id=None, status="failed", charged="no", error=Wan25Error("m", code="c", fix="f")),
        Edit(
            task_id="t",
            status="completed",
            charged="yes",
            image_urls=("https://a.dev/1.png",),
            usage=Usage(credits_used=1.5),
        ),
        Edit(task_id="t", status="processing", charged="reserved", elapsed=3.2, typical=68.5),
    ],
)
def test_an_answer_keeps_to_its_schema(edit: Edit) -> None:
    answer = answer_of(edit).model_dump(mode="json")
    schema = output_schema(Answer)
    jsonschema.validate(answer, schema)
    objects = [name for name in ("usage", "error") if answer[name]]
    for name in objects:
        assert schema["properties"][name]["description"] == ", ".join(answer[name])


def test_three_tools_with_one_output_schema_each_cost_few_tokens() -> None:
    listed = [generate.contract(tool) for tool in generate.listed_tools()]
    assert len({json.dumps(tool["outputSchema"]) for tool in listed}) == 1
    characters = sum(len(json.dumps(tool, separators=(",", ":"))) for tool in listed)
    assert characters / CHARACTERS_A_TOKEN <= MOST_TOKENS

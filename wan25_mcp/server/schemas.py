"""The schemas that are listed: in the words and forms that every client's converter takes.

Clients rewrite a schema for their model's API, and the strictest refuse a tool, or a whole request,
for one keyword. Tried are openai-agents (strict), google-genai, ADK, LangChain (strict) and
Anthropic. What a call may hold is checked by `arguments.read`, whatever is listed.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

_DROPPED: Final = ("title", "default", "format", "minLength", "maxLength", "pattern")
"""OpenAI's strict schemas have no format, no lengths and no default but null, so lengths are in the
descriptions. A pattern would have clients refuse an id in quotes, which is accepted here."""


def input_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of a tool's arguments. Unknown names are refused, but that is not listed: the
    keyword for it stops google-genai."""
    full = model.model_json_schema()
    rules = {
        name: _rule(rule, is_optional="default" in rule)
        for name, rule in full["properties"].items()
    }
    return {"type": "object", "properties": rules, "required": full["required"]}


def describe(schema: dict[str, Any], name: str, description: str) -> None:
    """Replace the description of an argument."""
    rule = schema["properties"][name]
    for place in (rule, *rule.get("anyOf", ())[:1]):
        place["description"] = description


def _rule(rule: dict[str, Any], *, is_optional: bool) -> dict[str, Any]:
    """One argument. An optional one may be null, because strict conversion requires every argument.

    As `anyOf`, because Anthropic's conversion fails at a list of types. With the description in
    both places, because google-genai and ADK keep the inner one, and others the outer one.
    """
    options = [option for option in rule.get("anyOf", ()) if option.get("type") != "null"]
    plain = {**rule, **options[0]} if options else dict(rule)
    if "const" in plain:  # fewer clients support it than `enum`
        plain["enum"] = [plain.pop("const")]
    if "items" in plain:
        plain["items"] = _rule(plain["items"], is_optional=False)
    plain = {key: value for key, value in plain.items() if key not in (*_DROPPED, "anyOf")}
    if not is_optional:
        return plain
    description = {key: plain[key] for key in ("description",) if key in plain}
    return {"anyOf": [plain, {"type": "null"}], "default": None, **description}


def output_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of an answer. It is listed with each tool, so it says no more than each field's
    type and meaning; for an object, the names in it."""
    full = model.model_json_schema(mode="serialization")
    rules = {name: _field(rule, full["$defs"]) for name, rule in full["properties"].items()}
    return {"type": "object", "properties": rules, "required": full["required"]}


def _field(rule: dict[str, Any], objects: dict[str, Any]) -> dict[str, Any]:
    first, *rest = [_resolved(option, objects) for option in rule.get("anyOf", (rule,))]
    words = rule.get("description") or ", ".join(first["properties"])
    if "enum" in first:
        return {"enum": first["enum"], "description": words}
    types = [first["type"], *(option["type"] for option in rest)]
    return {"type": types if rest else first["type"], "description": words}


def _resolved(option: dict[str, Any], objects: dict[str, Any]) -> dict[str, Any]:
    name = option.get("$ref", "").rpartition("/")[2]
    resolved: dict[str, Any] = objects[name] if name else option
    return resolved

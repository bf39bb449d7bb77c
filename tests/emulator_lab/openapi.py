"""An OpenAPI 3.1 description of what the emulator plays. Data only.

It describes the emulator, which is stricter than the specification where that is silent (`n` has
bounds, a prompt is not empty), so that fuzzing can hold the one against the other.
"""

from __future__ import annotations

from typing import Any

from wan25_mcp.emulator.options import Generation
from wan25_mcp.emulator.refusals import MODEL
from wan25_mcp.emulator.rules import MAX_CALLBACK_URL, MAX_IMAGES_IN, MAX_IMAGES_OUT, MAX_PROMPT

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
MONEY: Schema = {"type": "number", "minimum": 0}


def describe(origin: str, generation: Generation) -> Schema:
    """The whole description, for a server at `origin`."""
    return {
        "openapi": "3.1.0",
        "info": {"title": f"{MODEL} (emulated)", "version": "1.0.0"},
        "servers": [{"url": origin}],
        "security": [{"bearerAuth": []}],
        "paths": _paths(generation),
        "components": {
            "securitySchemes": {"bearerAuth": {"type": "http", "scheme": "bearer"}},
            "schemas": _schemas(generation),
        },
    }


def _paths(generation: Generation) -> Schema:
    return {
        "/apiv1/v1/images/generations": {
            "post": {
                "operationId": "submit",
                "requestBody": _json_body("Request"),
                "responses": _answers("Task", 400, 401, 402, 403, 404, 413, 429),
            }
        },
        "/apiv1/v1/tasks/{task_id}": {
            "get": {
                "operationId": "query",
                "parameters": [_task_id(generation)],
                "responses": _answers("Task", 400, 401, 404),
            }
        },
        "/apiv1/v1/credits": {
            "get": {"operationId": "credits", "responses": _answers("Credits", 401)}
        },
        "/api/v1/files/quota": {
            "get": {"operationId": "quota", "responses": _quota_answers()},
        },
        "/api/v1/files/upload/base64": {
            "post": {
                "operationId": "uploadBase64",
                "requestBody": _json_body("Base64Upload"),
                "responses": _upload_answers(),
            }
        },
        "/api/v1/files/upload/stream": {
            "post": {
                "operationId": "uploadStream",
                "requestBody": _multipart_body(),
                "responses": _upload_answers(),
            }
        },
    }


def _schemas(generation: Generation) -> Schema:
    return {
        "Request": _request(),
        "Task": _task(),
        "Error": _error(generation),
        "Credits": _credits(),
        "Base64Upload": _object(
            {"base64_data": TEXT, "upload_path": TEXT, "file_name": TEXT}, ["base64_data"]
        ),
        "Upload": _upload(),
        "Quota": _quota(),
        "UploadError": _object(
            {"success": {"const": False}, "code": {"type": "integer"}, "msg": TEXT},
            ["success", "code", "msg"],
        ),
    }


def _request() -> Schema:
    link = {"type": "string", "format": "uri", "pattern": "^https?://[A-Za-z0-9]"}
    # Named hosts only: a pattern cannot say which numbers are internal addresses.
    hook = {**link, "pattern": "^https://[A-Za-z]", "maxLength": MAX_CALLBACK_URL}
    properties = {
        "model": {"type": "string", "enum": [MODEL], "default": MODEL},
        "prompt": {"type": "string", "minLength": 1, "maxLength": MAX_PROMPT},
        "n": {"type": "integer", "minimum": 1, "maximum": MAX_IMAGES_OUT},
        "image_urls": {"type": "array", "items": link, "minItems": 1, "maxItems": MAX_IMAGES_IN},
        "callback_url": hook,
    }
    return _object(properties, ["model", "prompt", "image_urls"])


def _task() -> Schema:
    task_info = _object(
        {"can_cancel": {"type": "boolean"}, "estimated_time": COUNT}, ["can_cancel"]
    )
    usage = {
        "billing_rule": {"enum": ["per_call"]},
        "credits_reserved": MONEY,
        "credits_used": MONEY,
        "user_group": TEXT,
        "cost": _object({"credits": MONEY, "usd": MONEY, "cny": MONEY}, ["credits", "usd", "cny"]),
    }
    properties = {
        "created": COUNT,
        "duration": COUNT,
        "id": {"type": "string", "pattern": "^task-unified-[0-9]+-[a-z0-9]{8}$"},
        "model": {"const": MODEL},
        "object": {"const": "image.generation.task"},
        "progress": {"type": "integer", "minimum": 0, "maximum": 100},
        "status": {"enum": ["pending", "processing", "completed", "failed", "cancelled"]},
        "task_info": task_info,
        "type": {"const": "image"},
        "usage": {**_object(usage, []), "additionalProperties": False},
        "error": _object({"code": TEXT, "message": TEXT, "type": TEXT}, ["code", "message"]),
        "results": {"type": "array", "items": {"type": "string", "format": "uri"}},
        "result_data": {"type": "array", "items": _object({"url": TEXT}, ["url"])},
    }
    always = ["created", "id", "model", "object", "status", "task_info", "type", "usage"]
    return {**_object(properties, always), "additionalProperties": False}


def _error(generation: Generation) -> Schema:
    properties: Schema = {
        "code": {"type": "integer"} if generation == "specification" else TEXT,
        "message": TEXT,
        "type": TEXT,
        "param": TEXT,
    }
    if generation == "specification":
        properties["fallback_suggestion"] = TEXT
    inner = {**_object(properties, ["code", "message", "type"]), "additionalProperties": False}
    return _object({"error": inner}, ["error"])


def _credits() -> Schema:
    purse = {"remaining_credits": {"type": "number"}, "used_credits": MONEY}
    token = {**purse, "unlimited_credits": {"type": "boolean"}}
    found = _object(
        {"token": _object(token, list(token)), "user": _object(purse, list(purse))},
        ["token", "user"],
    )
    properties = {"data": found, "message": TEXT, "success": {"type": "boolean"}}
    return _object(properties, list(properties))


def _upload() -> Schema:
    texts = ("file_id", "file_name", "mime_type", "file_url", "download_url")
    moment = {"type": "string", "format": "date-time"}
    stored = {**dict.fromkeys(texts, TEXT), "file_size": COUNT}
    stored |= {"upload_time": moment, "expires_at": moment}
    properties = {
        "success": {"const": True},
        "code": {"const": 200},
        "msg": TEXT,
        "data": _object(stored, list(stored)),
    }
    return _object(properties, list(properties))


def _quota() -> Schema:
    counts: Schema = dict.fromkeys(("used_files", "max_files", "remain_files"), COUNT)
    counts |= {"user_group": TEXT, "is_custom": {"type": "boolean"}, "quota_reason": TEXT}
    properties = {
        "success": {"const": True},
        "code": {"const": 200},
        "data": _object(counts, list(counts)),
    }
    return _object(properties, list(properties))


def _object(properties: Schema, required: list[str]) -> Schema:
    return {"type": "object", "properties": properties, "required": required}


def _content(name: str) -> Schema:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _json_body(name: str) -> Schema:
    return {"required": True, "content": _content(name)}


def _multipart_body() -> Schema:
    file = {"type": "string", "format": "binary"}
    schema = _object({"file": file, "upload_path": TEXT, "file_name": TEXT}, ["file"])
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


def _answers(good: str, *refusals: int) -> Schema:
    bad = {
        str(status): {"description": "Refused", "content": _content("Error")} for status in refusals
    }
    return {"200": {"description": "Done", "content": _content(good)}} | bad


def _upload_answers() -> Schema:
    bad = {
        str(status): {"description": "Refused", "content": _content("UploadError")}
        for status in (400, 401, 413)
    }
    return {"200": {"description": "Stored", "content": _content("Upload")}} | bad


def _quota_answers() -> Schema:
    bad = {"401": {"description": "Refused", "content": _content("UploadError")}}
    return {"200": {"description": "Counted", "content": _content("Quota")}} | bad


def _task_id(generation: Generation) -> Schema:
    """The later generation answers 400 to an impossible id and 404 to an unknown one."""
    shape = {"pattern": "^task-[^/]*$"} if generation == "later" else {"minLength": 1}
    return {"name": "task_id", "in": "path", "required": True, "schema": TEXT | shape}

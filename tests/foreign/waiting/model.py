"""A stand-in for a client's model, in OpenAI's chat completions and in Gemini's API.

It asks for one edit, does what each answer's "Next:" says, and ends with the link of the image.

    python model.py LINK PROMPT LOG

Prints its port. LOG gets a line for each thing that the model is shown or says. Standard library
only. `x` is a good key.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LINK, PROMPT, LOG = sys.argv[1], sys.argv[2], Path(sys.argv[3])
BEGAN = time.monotonic()
_IMAGE = re.compile(r'Image 1: ([^\s\\"]+)')
_NEXT = re.compile(
    r'Call wait_for_task with task_id \\*"([^"\\]+)\\*"(?: and timeout_seconds (\d+(?:\.\d+)?))?'
)
Call = tuple[str, Mapping[str, Any]]


def note(kind: str, what: object) -> None:
    with LOG.open("a", encoding="utf-8") as log:
        log.write(f"{time.monotonic() - BEGAN:.1f}\t{kind}\t{json.dumps(what)}\n")


def decide(tools: list[str], calls: list[Call], shown: str) -> Call | str:
    """The next call, or a text that ends the conversation."""
    names = {name.rpartition("__")[2].rpartition("wan25_")[2]: name for name in tools}
    if "edit_image" not in names:
        return "ok"  # it is asked something else, such as for a title
    if not calls:
        return names["edit_image"], {"prompt": PROMPT, "image_urls": [LINK]}
    note("shown", shown)
    if link := _IMAGE.search(shown):
        return f"DONE {link[1]}"
    if not (following := _NEXT.search(shown)):
        return calls[-1]  # an error: it tries again
    seconds = {} if following[2] is None else {"timeout_seconds": float(following[2])}
    return names["wait_for_task"], {"task_id": following[1], **seconds}


def openai(body: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    """The answer whole, and as a stream."""
    calls: list[Call] = []
    shown = ""
    for message in body["messages"]:
        asked = [one["function"] for one in message.get("tool_calls") or ()]
        calls += [(one["name"], json.loads(one["arguments"])) for one in asked]
        if message["role"] == "tool":
            content = message["content"]
            shown = content if isinstance(content, str) else json.dumps(content)
    said = decide([tool["function"]["name"] for tool in body.get("tools") or ()], calls, shown)
    note("said", said)
    answer: dict[str, Any] = {"role": "assistant", "content": said}
    if not isinstance(said, str):
        function = {"name": said[0], "arguments": json.dumps(said[1])}
        call = {"index": 0, "id": f"call_{len(calls)}", "type": "function", "function": function}
        answer |= {"content": None, "tool_calls": [call]}
    reason = "stop" if isinstance(said, str) else "tool_calls"
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    whole = {"id": "x", "created": 1, "model": "scripted", "usage": usage}
    chunk = {**whole, "object": "chat.completion.chunk"}
    return (
        {
            **whole,
            "object": "chat.completion",
            "choices": [{"index": 0, "message": answer, "finish_reason": reason}],
        },
        [
            {**chunk, "choices": [{"index": 0, "delta": answer, "finish_reason": None}]},
            {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]},
        ],
    )


def gemini(body: Mapping[str, Any]) -> Mapping[str, Any]:
    calls: list[Call] = []
    shown = ""
    for part in (part for content in body.get("contents", ()) for part in content.get("parts", ())):
        if "functionCall" in part:
            calls.append((part["functionCall"]["name"], part["functionCall"].get("args", {})))
        if "functionResponse" in part:
            shown = json.dumps(part["functionResponse"]["response"], ensure_ascii=False)
    declared = [one for tool in body.get("tools", ()) for one in tool["functionDeclarations"]]
    said = decide([one["name"] for one in declared], calls, shown)
    note("said", said)
    is_text = isinstance(said, str)
    part = {"text": said} if is_text else {"functionCall": {"name": said[0], "args": said[1]}}
    content = {"role": "model", "parts": [part]}
    return {
        "candidates": [{"content": content, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 1, "totalTokenCount": 2},
    }


class Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if "messages" in body:
            whole, chunks = openai(body)
            streams = [*map(json.dumps, chunks), "[DONE]"] if body.get("stream") else None
        else:
            whole = gemini(body)
            streams = [json.dumps(whole)] if "stream" in self.path else None
        text = json.dumps(whole)
        if streams is not None:
            text = "".join(f"data: {one}\r\n\r\n" for one in streams)
        self.send_response(200)
        kind = "application/json" if streams is None else "text/event-stream"
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()

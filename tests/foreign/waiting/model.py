"""A stand-in for a client's model, in the APIs of OpenAI (both), Anthropic and Gemini.

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
_IMAGE = re.compile(r'(?:Image 1: |"image_urls\W+)(https?:[^\s\\"]+)')
"""The link in an answer's text, or in its structure."""
_NEXT = re.compile(
    r'Call wait_for_task with task_id \\*"([^"\\]+)\\*"(?: and timeout_seconds (\d+(?:\.\d+)?))?'
)
Call = tuple[str, Mapping[str, Any]]
_SLEEP: Mapping[str, Mapping[str, Any]] = {
    "Bash": {"command": "sleep 4", "description": "Wait"},
    "exec_command": {"cmd": "sleep 4", "yield_time_ms": 6000},
}
"""The shell of Claude Code and of Codex, which ask their model before a server has started."""


def note(kind: str, what: object) -> None:
    with LOG.open("a", encoding="utf-8") as log:
        log.write(f"{time.monotonic() - BEGAN:.1f}\t{kind}\t{json.dumps(what)}\n")


def decide(tools: list[str], calls: list[Call], shown: str) -> Call | str:
    """The next call, or a text that ends the conversation."""
    names = {name.rpartition("__")[2].rpartition("wan25_")[2]: name for name in tools}
    if "edit_image" not in names:  # the server is still starting, or it is asked for a title
        slept = sum(name in _SLEEP for name, _ in calls)
        sleeps = [(name, given) for name, given in _SLEEP.items() if name in names and slept < 20]
        return sleeps[0] if sleeps else "ok"
    calls = [call for call in calls if call[0] not in _SLEEP]
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
            shown = _text(message["content"])
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


def anthropic(body: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    calls: list[Call] = []
    shown = ""
    for message in body["messages"]:
        for part in message["content"] if isinstance(message["content"], list) else ():
            if part["type"] == "tool_use":
                calls.append((part["name"], part["input"]))
            if part["type"] == "tool_result":
                shown = _text(part["content"])
    said = decide([tool["name"] for tool in body.get("tools", ())], calls, shown)
    note("said", said)
    usage = {"input_tokens": 1, "output_tokens": 1}
    whole = {"id": "x", "type": "message", "role": "assistant", "model": "x", "usage": usage}
    if isinstance(said, str):
        reason, block = "end_turn", {"type": "text", "text": said}
        begun, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": said}
    else:
        use = {"type": "tool_use", "id": f"toolu_{len(calls)}", "name": said[0]}
        reason, block, begun = "tool_use", {**use, "input": said[1]}, {**use, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(said[1])}
    ended = {"stop_reason": reason, "stop_sequence": None}
    return {**whole, **ended, "content": [block]}, [
        {"type": "message_start", "message": {**whole, "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": begun},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": ended, "usage": usage},
        {"type": "message_stop"},
    ]


def responses(body: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    """OpenAI's newer API, where tools may be in namespaces."""
    calls: list[Call] = []
    shown = ""
    for item in body["input"]:
        if item["type"] == "function_call":
            calls.append((item["name"], json.loads(item["arguments"])))
        if item["type"] == "function_call_output":
            shown = _text(item["output"])
    spaces = {
        tool["name"]: space["name"]
        for space in body.get("tools", ())
        for tool in space.get("tools", [space])
        if tool["type"] == "function"
    }
    said = decide([*spaces], calls, shown)
    note("said", said)
    if isinstance(said, str):
        content = [{"type": "output_text", "text": said, "annotations": []}]
        item = {"type": "message", "id": "x", "role": "assistant", "content": content}
    else:
        function = {"name": said[0], "arguments": json.dumps(said[1])}
        space = {} if spaces[said[0]] == said[0] else {"namespace": spaces[said[0]]}
        item = {"type": "function_call", "call_id": f"call_{len(calls)}", **function, **space}
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    whole = {"id": "x", "object": "response", "output": [item], "usage": usage}
    return whole, [
        {"type": "response.created", "response": {**whole, "output": []}},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": whole},
    ]


def _text(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content)


class Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._send("")

    def do_GET(self) -> None:
        self._send('{"data": [], "models": []}')

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        whole, chunks = self._answers(body)
        if not (body.get("stream") or "stream" in self.path):
            self._send(json.dumps(whole))
            return
        names = [f"event: {one['type']}\r\n" if "type" in one else "" for one in chunks]
        lines = [
            f"{name}data: {json.dumps(one)}\r\n\r\n"
            for name, one in zip(names, chunks, strict=True)
        ]
        end = "data: [DONE]\r\n\r\n" if "chat/completions" in self.path else ""
        self._send("".join(lines) + end, "text/event-stream")

    def _answers(
        self, body: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
        if "count_tokens" in self.path:
            return {"input_tokens": 1}, []
        if "/messages" in self.path:
            return anthropic(body)
        if "/responses" in self.path:
            return responses(body)
        if "messages" in body:
            return openai(body)
        whole = gemini(body)
        return whole, [whole]

    def _send(self, text: str, kind: str = "application/json") -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()

"""Plays the model of a chat host: has a photo edited, waits for it, and says where it is.

Speaks just enough of the Messages API of Anthropic, streamed. What the host shows its model are the
results of tools in the messages; each answer is decided from these alone. Standard library only.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MOST_WAITS = 6


class Model(ThreadingHTTPServer):
    """Listens on a free port. `photo` is edited with `prompt`, as the person asked."""

    daemon_threads = True

    def __init__(self, photo: str, prompt: str) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        self.photo, self.prompt = photo, prompt
        self.shown: list[str] = []
        """Every result of a tool, as the model was shown it."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The block that the model answers with."""
        tools = {tool["name"].rpartition("__")[2]: tool["name"] for tool in asked.get("tools", [])}
        if "WaitForMcpServers" in tools and "edit_image" not in tools:
            return _use("WaitForMcpServers", {}, "hosts")
        if "edit_image" not in tools:  # such as the title of a chat
            return {"type": "text", "text": "A photo"}
        results = list(_results(asked))
        self.shown = results
        if not results:
            arguments = {"prompt": self.prompt, "image_urls": [self.photo]}
            return _use(tools["edit_image"], arguments, "ours_0")
        if "completed" in results[-1] or len(results) > MOST_WAITS:
            return {"type": "text", "text": f"Done. {results[-1]}"}
        task = re.search(r"task-unified-[\w-]+", results[0])
        if task is None:
            return {"type": "text", "text": f"It did not begin. {results[0]}"}
        arguments = {"task_id": task[0], "timeout_seconds": 20 + len(results)}
        return _use(tools["wait_for_task"], arguments, f"ours_{len(results)}")


@contextmanager
def played(photo: str, prompt: str) -> Iterator[Model]:
    model = Model(photo, prompt)
    threading.Thread(target=model.serve_forever, daemon=True).start()
    try:
        yield model
    finally:
        model.shutdown()
        model.server_close()


def _use(tool: str, arguments: dict[str, Any], name: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{name}", "name": tool, "input": arguments}


def _results(asked: dict[str, Any]) -> Iterator[str]:
    """What our tools have answered."""
    for message in asked["messages"]:
        for block in message["content"] if isinstance(message["content"], list) else ():
            if block.get("tool_use_id", "").startswith("toolu_ours"):
                content = block["content"]
                yield content if isinstance(content, str) else json.dumps(content)


def _events(block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    usage = {"input_tokens": 1, "output_tokens": 1}
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "played",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
    yield {"type": "message_start", "message": message}
    if block["type"] == "text":
        start, delta = {**block, "text": ""}, {"type": "text_delta", "text": block["text"]}
    else:
        text = json.dumps(block["input"])
        start, delta = {**block, "input": {}}, {"type": "input_json_delta", "partial_json": text}
    yield {"type": "content_block_start", "index": 0, "content_block": start}
    yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    reason = "end_turn" if block["type"] == "text" else "tool_use"
    ended = {"stop_reason": reason, "stop_sequence": None}
    yield {"type": "message_delta", "delta": ended, "usage": usage}
    yield {"type": "message_stop"}


class _Requests(BaseHTTPRequestHandler):
    server: Model

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        if "count_tokens" in self.path:
            self._send(json.dumps({"input_tokens": 1}), "application/json")
            return
        block = self.server.answer(asked)
        events = list(_events(block))
        if not asked.get("stream"):
            whole = {**events[0]["message"], "content": [block], "stop_reason": "end_turn"}
            self._send(json.dumps(whole), "application/json")
            return
        lines = (f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in events)
        self._send("".join(lines), "text/event-stream")

    def do_GET(self) -> None:
        self._send("{}", "application/json")

    do_HEAD = do_GET  # noqa: N815

    def _send(self, text: str, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text.encode())

    def log_message(self, format: str, *values: object) -> None:  # noqa: A002
        pass

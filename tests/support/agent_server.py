"""An HTTP agent for tests, as a process of its own: waits, uses tools, answers; remembers what it was asked.

    with AgentServer(delay=1.0, tools=3) as agent:
        ... CLEO_AGENT=agent.url ...
        agent.requests()  # the JSON bodies in order of arrival

The answer is ``final: `` and the text that it got. A subject that begins with ``status 503`` or the like gets
that status, ``status 503 twice`` only twice per message; ``garbage`` gets HTML, ``nothing`` no answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import urllib.request
from collections import Counter
from types import TracebackType
from typing import Any, Self

WORDS = {"once": 1, "twice": 2}


class _Agent:
    def __init__(self, delay: float, tools: int) -> None:
        self.delay = delay
        self.tools = tools
        self.seen: list[dict[str, Any]] = []
        self.refusals: Counter[str] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            lines = head.split("\r\n")
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            if lines[0].startswith("GET"):
                status, kind, answer = 200, "application/json", json.dumps(self.seen).encode()
            else:
                status, kind, answer = await self._answer(json.loads(body), headers)
            writer.write(
                f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(answer)}\r\n"
                "Connection: close\r\n\r\n".encode()
                + answer
            )
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, request: dict[str, Any], headers: dict[str, str]) -> tuple[int, str, bytes]:
        self.seen.append({"key": headers.get("idempotency-key"), **request})
        await asyncio.sleep(self.delay)
        subject = request["message"]["subject"]
        for word in reversed(subject.split(": ")):
            if word.startswith("status "):
                status, times = int(word.split()[1]), WORDS.get(word.split()[-1], 10**9)
                self.refusals[request["id"]] += 1
                if self.refusals[request["id"]] <= times:
                    return status, "application/json", b'{"error": "as you wish"}'
            if word.startswith("garbage"):
                return 200, "text/html", b"<html>Bad Gateway</html>"
            if word.startswith("nothing"):
                return 200, "application/json", b'{"messages": []}'
        tools: list[dict[str, Any]] = []
        for number in range(self.tools):
            call = {
                "id": f"call-{number}",
                "type": "function",
                "function": {"name": "look", "arguments": "{}"},
            }
            tools.append({"role": "assistant", "content": f"thinking {number}", "tool_calls": [call]})
            tools.append({"role": "tool", "content": f"tool result {number}", "tool_call_id": call["id"]})
        final = {"role": "assistant", "content": f"final: {request['message']['text']}"}
        return 200, "application/json", json.dumps({"messages": [*tools, final]}).encode()


async def _run(delay: float, tools: int) -> None:
    agent = _Agent(delay, tools)
    server = await asyncio.start_server(agent.serve, "127.0.0.1", 0, backlog=1000, limit=2**27)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class AgentServer:
    def __init__(self, *, delay: float = 0.0, tools: int = 0) -> None:
        self._argv = [
            sys.executable,
            "-m",
            "tests.support.agent_server",
            "--delay",
            str(delay),
            "--tools",
            str(tools),
        ]
        self.url = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._argv, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}/agent"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    def requests(self) -> list[dict[str, Any]]:
        with urllib.request.urlopen(self.url, timeout=10) as response:
            found: list[dict[str, Any]] = json.load(response)
        return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--tools", type=int, default=0)
    options = parser.parse_args()
    asyncio.run(_run(options.delay, options.tools))

from __future__ import annotations

import base64
import gzip
import json
import logging
import socket
import threading
import time
from collections.abc import Callable

import pytest

from cleo_email.agents.base import Agent, AgentAttachment, AgentRequest, Callback
from cleo_email.agents.build import build_agent
from cleo_email.agents.http import proxy_limit
from cleo_email.errors import AgentError, AgentUnavailable
from cleo_email.http import client as http
from cleo_email.mail.model import Answer, AttachedFile
from tests.agents.scripted_server import Script, Seen, Server, answer_of, sending

Serve = Callable[..., Server]
TOKEN = "tok-0123456789-geheim"
HIDDEN = "geheim-4711-3f9c"
REPLY = json.dumps({"reply": "Gut."}).encode()


def agent_at(url: str, token: str | None = TOKEN) -> Agent:
    return build_agent(url, token=token, environ={})


def fault_of(agent: Agent, request: AgentRequest, deadline: float = 10) -> AgentError:
    with pytest.raises(AgentError) as caught:
        agent.answer(request, deadline=deadline)
    assert "\n" not in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert caught.value.__cause__ is None
    return caught.value


def test_the_request_goes_out_as_the_contract_says(serve: Serve, request_: AgentRequest) -> None:
    server = serve(sending(200, REPLY))
    assert agent_at(f"{server.url}/a%20b/ü?key=1&x=ä").answer(request_, deadline=10) == Answer("Gut.")
    [seen] = server.seen
    assert seen.line == "POST /a%20b/%C3%BC?key=1&x=%C3%A4 HTTP/1.1"
    assert seen.headers["idempotency-key"] == "rec-1"
    assert seen.headers["authorization"] == f"Bearer {TOKEN}"
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["accept"] == "application/json"
    assert seen.headers["host"] == f"127.0.0.1:{server.port}"
    assert seen.json == request_.model_dump(mode="json")


def test_without_a_token_nothing_is_authorized(serve: Serve, request_: AgentRequest) -> None:
    server = serve(sending(200, REPLY))
    agent_at(server.url, None).answer(request_, deadline=10)
    assert "authorization" not in server.seen[0].headers


def test_user_and_password_in_the_url_become_basic_authorization(
    serve: Serve, request_: AgentRequest
) -> None:
    server = serve(sending(200, REPLY))
    agent = agent_at(f"http://bot:p%40ss@127.0.0.1:{server.port}/x", None)
    agent.answer(request_, deadline=10)
    assert server.seen[0].headers["authorization"] == "Basic " + base64.b64encode(b"bot:p@ss").decode()
    assert server.seen[0].line == "POST /x HTTP/1.1"
    assert "p@ss" not in f"{agent!r}"
    assert "p%40ss" not in f"{agent!r}"


def test_three_tool_messages_and_then_the_answer(serve: Serve, request_: AgentRequest) -> None:
    messages = [
        {"role": "assistant", "content": "Moment.", "tool_calls": [{"id": "1"}]},
        *({"role": "tool", "content": str(n)} for n in range(3)),
        {"role": "assistant", "content": "Erledigt. ü\u20ac"},
    ]
    server = serve(sending(200, json.dumps({"messages": messages}, ensure_ascii=False).encode()))
    assert agent_at(server.url).answer(request_, deadline=10).text == "Erledigt. ü\u20ac"


def test_attachments_travel_byte_for_byte_both_ways(serve: Serve, request_: AgentRequest) -> None:
    data = bytes(range(256)) * 4096  # 1 MiB

    def back(connection: socket.socket, seen: Seen) -> None:
        [file] = seen.json["message"]["attachments"]
        assert file["size"] == len(data)
        connection.sendall(answer_of(200, json.dumps({"reply": "a", "attachments": [file]}).encode()))

    attachment = AttachedFile("ü.bin", "application/x-any", data)
    message = request_.message.model_copy(update={"attachments": (AgentAttachment.of(attachment),)})
    request = request_.model_copy(update={"message": message})
    answer = agent_at(serve(back).url).answer(request, deadline=20)
    assert answer.attachments == (attachment,)


@pytest.mark.parametrize("status", [429, 500, 501, 502, 503, 504, 520, 599])
def test_temporary_statuses(serve: Serve, request_: AgentRequest, status: int) -> None:
    server = serve(sending(status, b'{"error": "zu viel\\nlos"}'))
    fault = fault_of(agent_at(server.url), request_)
    assert isinstance(fault, AgentUnavailable)
    assert str(fault) == f"{server.url} answered {status}: zu viel los"


@pytest.mark.parametrize(
    "status", [300, 304, 400, 401, 403, 404, 405, 408, 409, 410, 413, 415, 418, 422, 451]
)
def test_permanent_statuses(serve: Serve, request_: AgentRequest, status: int) -> None:
    fault = fault_of(agent_at(serve(sending(status, b'{"error": {"message": "nein"}}')).url), request_)
    assert not isinstance(fault, AgentUnavailable)
    assert str(status) in str(fault)
    assert ("nein" in str(fault)) == (status >= 400)
    assert ("CLEO_AGENT_TOKEN" in str(fault)) == (status in (401, 403))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(serve: Serve, request_: AgentRequest, status: int) -> None:
    target = serve(sending(200, REPLY))
    server = serve(
        sending(status, b"", f"Location: http://u:{HIDDEN}@127.0.0.1:{target.port}/p?key={HIDDEN}")
    )
    fault = fault_of(agent_at(server.url), request_)
    assert not isinstance(fault, AgentUnavailable)
    assert f"redirect to http://127.0.0.1:{target.port}/p, which is not followed; set CLEO_AGENT" in str(
        fault
    )
    assert HIDDEN not in str(fault)
    assert "key" not in str(fault)
    assert target.seen == []


def test_a_redirect_to_another_path_and_a_wrong_path_are_shown_without_their_query(
    serve: Serve, request_: AgentRequest
) -> None:
    server = serve(sending(308, b"", "Location: /hook/?key=1"))
    fault = fault_of(agent_at(f"http://u:pw@127.0.0.1:{server.port}/hook?key=1", None), request_)
    assert str(fault) == (
        f"{server.url} answered 308, a redirect to {server.url}/hook/, which is not followed; "
        "set CLEO_AGENT to it"
    )
    server = serve(sending(404, b""))
    fault = fault_of(agent_at(f"http://u:pw@127.0.0.1:{server.port}/hok?key=1", None), request_)
    assert str(fault) == f"{server.url}/hok answered 404"


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"error": f"Bearer {TOKEN} / {TOKEN} refused " + "x" * 500}).encode(),
        json.dumps({"detail": "Wie geht es?"}).encode(),
        b"<html>Wie geht es?</html>",
        b"\xff\xfe\x00",
        b'{"error": ' + b"[" * 100_000,
        b"",
    ],
)
def test_a_reason_is_short_and_says_no_more_than_the_error_text(
    serve: Serve, request_: AgentRequest, body: bytes
) -> None:
    fault = fault_of(agent_at(serve(sending(400, body)).url), request_)
    assert len(str(fault)) < 260
    assert "Wie geht es" not in str(fault)


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (b"", "application/json", "empty body"),
        (b" \n", "application/json", "empty body"),
        (b"<!DOCTYPE html><p>Wie geht es?", "text/html", "web page"),
        (b"Wie geht es?", "text/plain", "no valid JSON"),
        (b'{"reply": "Wie geht es?', "application/json", "no valid JSON"),
        (b'{"reply": "\xff"}', "application/json", "no valid JSON"),
        (b'{"a":' * 100_000, "application/json", "nested too deep"),
        (b"[" * 5_000_000, "application/json", "nested too deep"),
        (b"1" * 10_000, "application/json", "no valid JSON"),
        (b'{"answer": "Wie geht es?"}', "application/json", "expected"),
        (gzip.compress(REPLY, mtime=0), "application/json", "no valid JSON"),
    ],
)
def test_a_malformed_answer_is_permanent(
    serve: Serve, request_: AgentRequest, body: bytes, kind: str, said: str
) -> None:
    fault = fault_of(agent_at(serve(sending(200, body, content_type=kind)).url), request_)
    assert not isinstance(fault, AgentUnavailable)
    assert said in str(fault)
    assert "Wie geht es" not in str(fault)


def test_a_compressed_answer_is_named(serve: Serve, request_: AgentRequest) -> None:
    server = serve(sending(200, gzip.compress(REPLY, mtime=0), "Content-Encoding: gzip"))
    assert "gzip" in str(fault_of(agent_at(server.url), request_))


@pytest.mark.parametrize("body", [b"\xef\xbb\xbf" + REPLY, REPLY.decode().encode("utf-16"), b"\n" + REPLY])
def test_json_may_come_with_a_mark_of_its_encoding(serve: Serve, request_: AgentRequest, body: bytes) -> None:
    server = serve(sending(200, body, content_type="text/plain"))
    assert agent_at(server.url).answer(request_, deadline=10).text == "Gut."


def chunked(connection: socket.socket, _: Seen) -> None:
    connection.sendall(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    for piece in (REPLY[:3], REPLY[3:]):
        connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
    connection.sendall(b"0\r\n\r\n")


def until_close(connection: socket.socket, _: Seen) -> None:
    connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + REPLY)


@pytest.mark.parametrize("script", [chunked, until_close])
def test_bodies_of_every_framing_are_read(serve: Serve, request_: AgentRequest, script: Script) -> None:
    assert agent_at(serve(script).url).answer(request_, deadline=10).text == "Gut."


@pytest.mark.parametrize(
    "cut",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + REPLY,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n" + REPLY,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_a_connection_that_breaks_is_temporary(serve: Serve, request_: AgentRequest, cut: bytes) -> None:
    server = serve(lambda connection, _: connection.sendall(cut))
    assert isinstance(fault_of(agent_at(server.url), request_), AgentUnavailable)


@pytest.mark.parametrize("answer", [b"220 mail.example.com ESMTP\r\n", b"\x15\x03\x01\x00\x02\x02\x16"])
def test_a_server_of_another_protocol_is_named(serve: Serve, request_: AgentRequest, answer: bytes) -> None:
    server = serve(lambda connection, _: connection.sendall(answer))
    fault = fault_of(agent_at(server.url), request_)
    assert not isinstance(fault, AgentUnavailable)
    assert "not HTTP" in str(fault)


def test_headers_without_end_are_no_answer(serve: Serve, request_: AgentRequest) -> None:
    def flood(connection: socket.socket, _: Seen) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            connection.sendall(b"X-A: b\r\n" * 1000)

    fault_of(agent_at(serve(flood).url), request_)


def test_a_refused_connection_is_temporary(request_: AgentRequest) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    fault = fault_of(agent_at(f"http://127.0.0.1:{port}/"), request_)
    assert isinstance(fault, AgentUnavailable)
    assert str(fault) == (
        f"http://127.0.0.1:{port}: refused: nothing listens there, or a firewall is between (CLEO_AGENT)"
    )


def test_of_a_model_the_other_setting_is_named_and_of_a_proxy_its_address(request_: AgentRequest) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        place = f"http://127.0.0.1:{closed.getsockname()[1]}"
    model = build_agent("openai:m", token=None, environ={"OPENAI_BASE_URL": place})
    assert str(fault_of(model, request_)).endswith("(OPENAI_BASE_URL)")
    proxied = build_agent("http://agent.example/x", token=None, environ={"HTTP_PROXY": place})
    assert str(fault_of(proxied, request_)).startswith(
        f"http://agent.example through the proxy {place}: refused"
    )


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 63 + ".invalid"])
def test_a_name_that_does_not_resolve_is_temporary(request_: AgentRequest, host: str) -> None:
    fault = fault_of(agent_at(f"http://{host}/"), request_)
    assert isinstance(fault, AgentUnavailable)
    assert str(fault).endswith(
        "no server of this name is known: look for a typo, or whether DNS works (CLEO_AGENT)"
    )


def test_a_refusal_before_the_whole_request_is_read_is_heard(serve: Serve, request_: AgentRequest) -> None:
    """A proxy that finds the mail too large says 413 at once and reads no further."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def refuse() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer_of(413, b'{"error": "zu gross"}', "Connection: close"))
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):  # as servers do that close with care
                    pass

        thread = threading.Thread(target=refuse)
        thread.start()
        message = request_.message.model_copy(update={"text": "x" * 20_000_000})
        request = request_.model_copy(update={"message": message})
        fault = fault_of(agent_at(f"http://127.0.0.1:{listening.getsockname()[1]}"), request)
        thread.join(20)
    assert not isinstance(fault, AgentUnavailable)
    assert "413: zu gross" in str(fault)


def hang(connection: socket.socket, server: Server, start: bytes = b"") -> None:
    connection.sendall(start)
    server.over.wait(30)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\nContent-Type: application/json\r\n\r\n"


@pytest.mark.parametrize(
    "start", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nX-A:", HEAD, HEAD + b'{"reply": ']
)
def test_a_server_that_falls_silent_is_left_at_the_deadline(
    serve: Serve, request_: AgentRequest, start: bytes
) -> None:
    server = serve(lambda connection, _: hang(connection, server, start))
    started = time.monotonic()
    fault = fault_of(agent_at(server.url), request_, deadline=0.3)
    assert 0.29 < time.monotonic() - started < 10
    assert isinstance(fault, AgentUnavailable)
    assert str(fault) == f"{server.url}: no answer within 0.3 s"


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200 OK\r\nX-Endless: ",
        HEAD,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=",
        b"HTTP/1.1 100 Continue\r\n",
    ],
)
def test_a_server_that_drips_is_left_at_the_deadline(
    serve: Serve, request_: AgentRequest, start: bytes
) -> None:
    def drip(connection: socket.socket, _: Seen) -> None:
        connection.sendall(start)
        while not server.over.wait(0.02):
            connection.sendall(b"1")

    server = serve(drip)
    started = time.monotonic()
    fault = fault_of(agent_at(server.url), request_, deadline=0.4)
    assert 0.39 < time.monotonic() - started < 10
    assert isinstance(fault, AgentUnavailable)


def test_an_error_page_that_drips_does_not_hide_its_status(
    serve: Serve, request_: AgentRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drip(connection: socket.socket, _: Seen) -> None:
        connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 1000\r\n\r\n")
        while not server.over.wait(0.02):
            connection.sendall(b"x")

    monkeypatch.setattr(http, "ERROR_BODY_SECONDS", 0.2)
    server = serve(drip)
    started = time.monotonic()
    fault = fault_of(agent_at(server.url), request_, deadline=60)
    assert 0.19 < time.monotonic() - started < 10  # 404 it says after ERROR_BODY_SECONDS, not at the deadline
    assert "404" in str(fault)
    assert not isinstance(fault, AgentUnavailable)


def test_a_server_that_does_not_read_is_left_at_the_deadline(request_: AgentRequest) -> None:
    message = request_.message.model_copy(update={"text": "x" * 30_000_000})
    request = request_.model_copy(update={"message": message})
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # the kernel accepts, nobody reads
        started = time.monotonic()
        fault = fault_of(agent_at(f"http://127.0.0.1:{deaf.getsockname()[1]}"), request, deadline=0.5)
    assert 0.49 < time.monotonic() - started < 10
    assert isinstance(fault, AgentUnavailable)


def test_a_deadline_that_is_over_already_calls_nobody(serve: Serve, request_: AgentRequest) -> None:
    server = serve(sending(200, REPLY))
    assert isinstance(fault_of(agent_at(server.url), request_, deadline=0), AgentUnavailable)
    assert server.seen == []


@pytest.mark.parametrize("announced", [True, False])
def test_a_huge_answer_is_refused(
    serve: Serve, request_: AgentRequest, monkeypatch: pytest.MonkeyPatch, announced: bool
) -> None:
    monkeypatch.setattr(http, "MAX_ANSWER_BYTES", 2**20)
    sent = 0

    def flood(connection: socket.socket, _: Seen) -> None:
        nonlocal sent
        length = b"Content-Length: 9999999999\r\n" if announced else b""
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n")
        while True:
            connection.sendall(b" " * 2**16)
            sent += 2**16

    fault = fault_of(agent_at(serve(flood).url), request_)
    assert not isinstance(fault, AgentUnavailable)
    assert "more than 1 MiB" in str(fault)
    assert sent < 50 * 2**20


def test_an_answer_just_below_the_limit_is_taken(
    serve: Serve, request_: AgentRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = json.dumps({"reply": "x" * 1_000_000}).encode()
    monkeypatch.setattr(http, "MAX_ANSWER_BYTES", len(body))
    assert len(agent_at(serve(sending(200, body)).url).answer(request_, deadline=10).text) == 1_000_000


def test_no_log_line_at_any_level_shows_token_or_mail(
    serve: Serve, request_: AgentRequest, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    agent = agent_at(serve(sending(500, b'{"error": "x"}')).url + "/path?key=" + HIDDEN)
    fault_of(agent, request_)
    shown = caplog.text + repr(agent)
    for secret in (TOKEN, HIDDEN, request_.message.text):
        assert secret not in shown


def test_connections_are_closed(serve: Serve, request_: AgentRequest) -> None:
    ended: list[bytes] = []

    def until_end(connection: socket.socket, _: Seen) -> None:
        connection.sendall(answer_of(200, REPLY))
        ended.append(connection.recv(1))

    server = serve(until_end)
    agent_at(server.url).answer(request_, deadline=10)
    server.close()
    assert ended == [b""]


# --- answers that come later --------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b'{"status": "accepted"}', b"<html>"])
def test_202_says_that_the_answer_comes_later(serve: Serve, request_: AgentRequest, body: bytes) -> None:
    server = serve(sending(202, body))
    with_callback = request_.model_copy(update={"callback": Callback(url="https://c.test/x", token="t")})
    assert agent_at(server.url).answer(with_callback, deadline=10) == Answer(later=True)
    assert server.seen[0].json["callback"] == {"url": "https://c.test/x", "token": "t"}
    assert "resumed" not in server.seen[0].json


@pytest.mark.parametrize(
    ("status", "seconds", "words"),
    [
        (503, 30.2, "Heroku"),
        (504, 60.1, "nginx"),
        (524, 100.0, "Cloudflare"),
        (502, 26.0, "Heroku"),
        (500, 60.0, ""),
        (503, 3.0, ""),
    ],
)
def test_a_likely_limit_of_a_proxy_is_named(status: int, seconds: float, words: str) -> None:
    said = proxy_limit(status, seconds)
    assert (words in said and "202" in said) if words else not said


def test_the_reason_of_a_504_after_a_long_time_points_to_202(
    serve: Serve, request_: AgentRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cleo_email.agents.http.PATIENT_S", 0.0)
    fault = fault_of(agent_at(serve(sending(504, b"")).url), request_)
    assert isinstance(fault, AgentUnavailable)
    assert "answered 504; that was after 0 s, perhaps the limit of a proxy" in str(fault)
    assert "docs/agents.md" in str(fault)

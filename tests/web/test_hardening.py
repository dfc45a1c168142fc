"""What a stranger on the network meets: limits, plain answers, and never a trace of the inside."""

from __future__ import annotations

import itertools
import json
import logging
import random
import re
import socket
import string
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cleo_email.settings import read_settings
from cleo_email.web.app import create_app
from tests.support.channel import Channel
from tests.support.redis_server import RedisServer
from tests.webhooks import samples
from tests.webhooks.samples import VALID, send

Make = Callable[..., FlaskClient]
SECRET = {"X-Webhook-Secret": samples.SECRET}
TOKEN = "api-token-0815"
PATHS = [
    "/email/incoming",
    "/email/incoming/raw",
    *(f"/email/incoming/{name}" for name in ("mailgun", "postmark", "sendgrid", "ses", "cloudmailin")),
    "/email/incoming/resend",
    "/email/incoming/brevo",
    "/email/send",
    "/email/messages",
    "/email/messages/0",
    "/workflows",
    "/healthz",
    "/readyz",
    "/metrics",
    "/nothing",
]


@pytest.fixture
def make(redis_url: str) -> Make:
    def build(**env: str) -> FlaskClient:
        values = {
            **samples.BASE,
            **samples.secrets_env(),
            "CLEO_API_TOKEN": TOKEN,
            "REDIS_URL": redis_url,
            **env,
        }
        found = read_settings(values, dotenv=None)
        return create_app(found, fetch=samples.Web()).test_client()

    return build


@pytest.fixture
def client(make: Make) -> FlaskClient:
    """For properties, as an application takes longer to build than a request to answer."""
    return make()


def wrong(client: FlaskClient, address: str = "203.0.113.1", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(
        "/email/incoming",
        data=b"{}",
        headers={"X-Webhook-Secret": "guess", **named},
        content_type="application/json",
        environ_base={"REMOTE_ADDR": address},
    )


def right(client: FlaskClient, address: str = "203.0.113.1", number: int = 1) -> int:
    answer = client.post(
        "/email/incoming",
        data=samples.fields_body(number),
        headers=SECRET,
        content_type="application/json",
        environ_base={"REMOTE_ADDR": address},
    )
    return answer.status_code


# --- wrong secrets -----------------------------------------------------------------------------------------


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """The minute does not end during the test."""
    monkeypatch.setattr("cleo_email.web.auth.now_ms", lambda: 1_800_000_015_000)


@pytest.mark.usefixtures("still")
def test_after_sixty_wrong_secrets_a_minute_an_address_is_told_to_wait(make: Make) -> None:
    client = make()
    assert [wrong(client).status_code for _ in range(60)] == [403] * 60
    answer = wrong(client)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "45")
    assert set(answer.json) == {"error", "fields"}
    assert right(client) == 202, "the right secret is taken at any time"
    assert wrong(client, "203.0.113.2").status_code == 403, "others are not blamed"


@pytest.mark.usefixtures("still")
def test_api_tokens_and_providers_are_counted_together(make: Make) -> None:
    client = make()
    elsewhere = {"REMOTE_ADDR": "203.0.113.1"}
    for _ in range(20):
        bearer = {"Authorization": "Bearer guess"}
        assert client.get("/email/messages", headers=bearer, environ_base=elsewhere).status_code == 401
        assert client.post("/email/incoming/mailgun", environ_base=elsewhere).status_code == 403
        assert client.post("/email/incoming/postmark", environ_base=elsewhere).status_code in (401, 429)
    assert wrong(client).status_code == 429
    ours = {"Authorization": f"Bearer {TOKEN}"}
    assert client.get("/email/messages", headers=ours, environ_base=elsewhere).status_code == 200
    assert send(client, VALID["mailgun"](1)).status_code == 200


@pytest.mark.usefixtures("still")
def test_two_hundred_from_everywhere_are_enough_and_leave_few_keys(make: Make) -> None:
    client = make()
    codes = [wrong(client, f"198.51.{n // 250}.{n % 250}").status_code for n in range(260)]
    assert codes == [403] * 200 + [429] * 60
    redis = client.application.extensions["cleo_email"].redis
    assert len(redis.keys("cleo:failures:*")) == 201
    assert all(0 < redis.ttl(key) <= 120 for key in redis.keys("cleo:failures:*"))
    assert right(client) == 202


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize(
    ("address", "forwarded", "counted"),
    [
        ("8.8.4.4", "198.51.100.7", "8.8.4.4"),  # a stranger's own header counts for nothing
        ("127.0.0.1", "198.51.100.7, 192.0.2.9", "192.0.2.9"),  # the last one is our proxy's
        ("10.0.0.5", "198.51.100.7", "198.51.100.7"),
        ("127.0.0.1", "nonsense", "127.0.0.1"),
        ("", "198.51.100.7", "198.51.100.7"),  # a Unix socket
        ("", "", "unknown"),
        ("2a02:db8:1:2:3:4:5:6", "", "2a02:db8:1:2::/64"),
        ("::ffff:203.0.113.1", "", "203.0.113.1"),
        ("127.0.0.1", "::ffff:203.0.113.1", "203.0.113.1"),
    ],
)
def test_whom_failures_are_counted_for(make: Make, address: str, forwarded: str, counted: str) -> None:
    client = make()
    headers = {"X_Forwarded_For": forwarded} if forwarded else {}
    assert wrong(client, address, **headers).status_code == 403
    keys = client.application.extensions["cleo_email"].redis.keys("cleo:failures:*:*")
    assert [key.decode().split(":", 3)[3] for key in keys] == [counted]


def test_without_redis_a_wrong_secret_is_plainly_refused(tmp_path: Path) -> None:
    env = {**samples.BASE, **samples.secrets_env(), "REDIS_URL": f"unix://{tmp_path}/nothing.sock"}
    client = create_app(read_settings(env, dotenv=None)).test_client()
    assert [wrong(client).status_code for _ in range(25)] == [403] * 25
    assert right(client) == 503


def test_a_page_in_a_browser_on_this_machine_is_no_loopback_caller(redis_url: str) -> None:
    """Its own host name was made to lead to 127.0.0.1 (DNS rebinding)."""
    client = create_app(read_settings({**samples.BASE, "REDIS_URL": redis_url}, dotenv=None)).test_client()
    for host in ("evil.test", "evil.test:8000", "localhost.evil.test", "127.0.0.1.evil.test", "[::2]:80"):
        assert client.get("/email/messages", headers={"Host": host}).status_code == 401, host
    for host in ("a_b.evil.test", "a!b.evil.test:8000", "*.evil.test", "ü.evil.test", "localhost@evil.test"):
        assert client.get("/email/messages", headers={"Host": host}).status_code == 401, host
    for host in (
        "localhost",
        "localhost:8000",
        "127.0.0.1:8000",
        "[::1]:8000",
        "[::1]",
        "app.localhost",
        "127.8.0.1",
    ):
        assert client.get("/email/messages", headers={"Host": host}).status_code == 200, host


# --- answers -----------------------------------------------------------------------------------------------


def test_every_answer_is_json_and_tells_browsers_to_keep_out(make: Make) -> None:
    client = make()
    for path, method in itertools.product(PATHS, ("GET", "POST", "PUT", "DELETE", "OPTIONS", "TRACE")):
        answer = client.open(path, method=method, environ_base={"REMOTE_ADDR": "203.0.113.1"})
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "Access-Control-Allow-Origin" not in answer.headers
        if answer.status_code >= 400:
            assert set(answer.json) == {"error", "fields"}, (method, path, answer.status_code)


def test_a_fault_of_ours_shows_nothing_of_the_inside(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = make()

    def broken(*_: object, **__: object) -> None:
        raise KeyError("what a stranger wrote, geheim-4711")

    monkeypatch.setattr(client.application.extensions["cleo_email"].receiver, "accept", broken)
    with caplog.at_level(logging.INFO):
        answer = send(client, VALID["mailgun"](1))
    assert answer.status_code == 500
    text = answer.get_data(as_text=True)
    assert "Traceback" not in text
    assert ".py" not in text
    assert "geheim-4711" not in text + caplog.text
    assert "KeyError" in caplog.text


def no_fault(
    client: FlaskClient, path: str, method: str, headers: list[tuple[str, str]], data: bytes
) -> None:
    environ: dict[str, Any] = {"REMOTE_ADDR": "203.0.113.1"}
    for name, value in headers:
        key = name.upper().replace("-", "_")
        environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value
    answer = client.open(path, method=method, data=data, environ_overrides=environ)
    assert answer.status_code != 500, (path, method, headers, data)
    if answer.status_code >= 400 and method != "HEAD":
        assert set(answer.json) == {"error", "fields"}


INTERESTING = [
    *("X-Webhook-Secret", "X-Cleo-Signature", "Authorization", "Content-Type", "Content-Length", "Host"),
    *("X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Envelope-From", "X-Envelope-To", "Idempotency-Key"),
    *("svix-id", "svix-timestamp", "svix-signature", "x-amz-sns-message-type", "Cookie", "Accept", "Range"),
    *(
        "X-Twilio-Email-Event-Webhook-Signature",
        "X-Twilio-Email-Event-Webhook-Timestamp",
        "If-Match",
        "Expect",
    ),
    *(
        "Content-Encoding",
        "Transfer-Encoding",
        "Date",
        "If-Modified-Since",
        "Origin",
        "Referer",
        "User-Agent",
    ),
]
VALUES = [
    *("", " ", "0", "-1", "1e309", "99999999999999999999", "null", "\t", "\x7f", "é", "\xff\xfe", "a" * 8000),
    *(
        "Basic",
        "Basic =",
        "Basic " + "A" * 4000,
        "Basic gICA",
        "Bearer",
        "Bearer \xff",
        "Digest x",
        "::1",
        "[::",
    ),
    *("t=1", "t=1,v1=", "t=" + "9" * 30 + ",v1=" + "a" * 64, "v1=" * 500, "," * 4000, ";" * 4000, "=" * 4000),
    *("application/json", "application/json;" * 200, "multipart/form-data", "multipart/form-data; boundary="),
    *("multipart/form-data; boundary=\xff", "multipart/form-data; boundary=" + "b" * 300, "message/rfc822"),
    *(
        "text/plain; charset=nonsense",
        "application/x-www-form-urlencoded; charset=utf-7",
        "*/*",
        "a/b/c",
        "/",
    ),
    *(
        "<>",
        "<a@b",
        "a@b\x00",
        "%00",
        "%",
        "../..",
        "localhost:99999",
        "http://[",
        "\u2028".encode().decode("latin-1"),
    ),
    *(
        "for=_hidden;by=x",
        "1.2.3.4, , ,",
        "999.999.999.999",
        'W/"x',
        "bytes=0-",
        "100-continue",
        "chunked",
        "gzip",
    ),
]


def test_no_header_makes_a_fault(make: Make) -> None:
    """Every interesting header with every odd value, on the ways that look at it."""
    client = make()
    rng = random.Random(4711)
    for name, value in itertools.product(INTERESTING, VALUES):
        for path in rng.sample(PATHS, 2):
            no_fault(
                client, path, rng.choice(["POST", "POST", "GET"]), [(name, value)], rng.choice([b"", b"{}"])
            )


latin = st.text(st.characters(max_codepoint=255, blacklist_characters="\r\n"), max_size=60)
BODIES = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(
        [b"", b"{}", b"[]", b"null", b'{"items": [1, {"Headers": 7}]}', b'{"Type": []}', b"a=b&c"]
    ),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
        max_leaves=12,
    ).map(lambda value: json.dumps(value).encode()),
)


@given(
    path=st.sampled_from(PATHS) | st.text(string.printable, max_size=30).map(lambda text: "/email/" + text),
    method=st.sampled_from(["GET", "POST", "PUT", "HEAD", "BREW"]),
    headers=st.lists(st.tuples(st.sampled_from(INTERESTING), latin | st.sampled_from(VALUES)), max_size=6),
    data=BODIES,
)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_request_makes_a_fault(
    client: FlaskClient, path: str, method: str, headers: list[tuple[str, str]], data: bytes
) -> None:
    no_fault(client, re.sub(r"[\s#\\\\]", "", path) or "/", method, headers, data)


JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=10,
)
KEYS = st.sampled_from(
    [
        *(
            "RawEmail",
            "FromFull",
            "ToFull",
            "Headers",
            "Attachments",
            "MessageID",
            "Subject",
            "Date",
            "RecordType",
        ),
        *(
            "items",
            "From",
            "To",
            "Cc",
            "Uuid",
            "MessageId",
            "RawTextBody",
            "ReplyTo",
            "SentAtDate",
            "Recipients",
        ),
        *("type", "data", "email_id", "raw"),
    ]
)


@given(data=st.dictionaries(KEYS, JUNK, max_size=6))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nor_does_one_that_is_proved(client: FlaskClient, data: dict[str, Any]) -> None:
    """Whoever knows the password may still send nonsense."""
    body = json.dumps(data).encode()
    requests = [
        samples.Request(
            "/email/incoming/postmark", body, {**samples.JSON, **samples.basic(samples.POSTMARK)}
        ),
        samples.Request("/email/incoming/brevo", body, {**samples.JSON, **samples.basic(samples.BREVO)}),
        samples.brevo(data),
        samples.Request("/email/incoming/resend", body, {**samples.JSON, **samples.svix(body)}),
        samples.sns(
            {
                **samples.ses_message(samples.mail(1)),
                "Message": json.dumps({**data, "notificationType": "Received"}),
            }
        ),
    ]
    for request in requests:
        answer = send(client, request)
        assert answer.status_code in (200, 403, 422, 503), (request, answer.json)


@pytest.mark.parametrize(
    "body",
    [
        b"&" * 2_000_000,
        b"a=1&" * 500_000,
        b"%" * 2_000_000,
        b"--xYzZY\r\n" * 200_000,
        b"\r\n--xYzZY" * 200_000,
        b"\r\n" * 1_000_000,
        b"--xYzZY\r\nContent-Disposition: " + b";" * 1_000_000,
        b"--xYzZY\r\nContent-Disposition: form-data; name=" + b'"' * 8000 + b"\r\n\r\nx\r\n--xYzZY--",
        b"--xYzZY\r\n" + b"a: b\r\n" * 200_000 + b"\r\n\r\nx\r\n--xYzZY--",
        b"[" * 2_000_000,
        b'{"a":' * 400_000,
        b"{" + b'"a":1,' * 400_000,
    ],
)
@pytest.mark.parametrize("kind", [samples.FORM, samples.URLENCODED, samples.JSON])
def test_no_body_keeps_a_worker_busy(make: Make, body: bytes, kind: dict[str, str]) -> None:
    client = make()
    for name in ("mailgun", "ses", "cloudmailin"):
        begun = time.process_time()
        headers = {**kind, **(samples.basic(samples.CLOUDMAILIN) if name == "cloudmailin" else {})}
        answer = send(client, samples.Request(f"/email/incoming/{name}", body, headers))
        assert answer.status_code in (403, 422, 429, 503)  # 422: larger than any message of SNS
        assert time.process_time() - begun < 2


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 9000 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"X-Many: 1\r\n" * 150 + b"\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nBad Name: 1\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n",
        b"POST /email/incoming HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /email/incoming HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /readyz HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS spoken to a plain port
        b"\x00" * 100 + b"\r\n\r\n",
    ],
)
def test_what_is_no_http_gets_no_trace_of_the_inside(served: Channel, request_: bytes) -> None:
    """gunicorn itself answers these, before the application is asked; its limits are the documented ones."""
    before = served.log.read_text().count("Traceback")
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        connection.sendall(request_)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile("rb").read()
    status = answer.split(b" ", 2)[1:2]
    assert status == [] or 400 <= int(status[0]) < 500, answer[:200]
    assert b"Traceback" not in answer
    assert b".py" not in answer
    assert served.log.read_text().count("Traceback") == before
    assert served.get("/healthz")[0] == 200


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer) -> Iterator[Channel]:
    env = {"EMAIL_SMTP_HOST": "127.0.0.1", "REDIS_URL": redis_server.url}
    with Channel(tmp_path_factory.mktemp("web"), env) as channel:
        channel.start_web()
        yield channel

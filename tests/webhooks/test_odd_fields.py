"""Every field of every way in, with what no mail program writes: nothing is half stored, nothing is a 500.

A lone surrogate in an envelope field once made the accepting script fail after its first write. What came
again was then a duplicate of a record that did not exist, and the mail was lost.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.webhooks import samples
from tests.webhooks.conftest import Make
from tests.webhooks.samples import VALID, Request, Web, mail, send
from tests.webhooks.test_providers import app_of

ODD = {
    "a lone surrogate": lambda value: f"\ud800{value}",
    "a lone surrogate at the end": lambda value: f"{value}\udcff",
    "NUL": lambda value: f"{value[:3]}\x00{value[3:]}",
    "1 MB": lambda value: value + "x" * 1_000_000,
}
Odd = Callable[[str], str]


def variants(value: Any, odd: Odd) -> Iterator[Any]:
    """Yield the JSON value once for each text in it, with that text made odd; its names too."""
    if isinstance(value, str):
        yield odd(value)
    elif isinstance(value, dict):
        for name, one in value.items():
            for other in variants(one, odd):
                yield {**value, name: other}
            yield {odd(key) if key == name else key: copy.copy(rest) for key, rest in value.items()}
    elif isinstance(value, list):
        for at, one in enumerate(value):
            for other in variants(one, odd):
                yield [*value[:at], other, *value[at + 1 :]]


def json_requests(request: Request, odd: Odd) -> Iterator[Request]:
    for data in variants(json.loads(request.body), odd):
        yield replace(request, body=json.dumps(data).encode())


def forms(make: Callable[[dict[str, Any]], Request], fields: dict[str, Any], odd: Odd) -> Iterator[Request]:
    for name, value in fields.items():
        if isinstance(value, str):
            yield make({**fields, name: odd(value).encode("utf-8", "surrogatepass")})


def signed(odd: Odd) -> Iterator[Request]:
    for request in json_requests(VALID["signature"](1), odd):
        yield samples.signed(request.body)


def postmark(odd: Odd) -> Iterator[Request]:
    yield from json_requests(samples.postmark(b""), odd)
    yield from json_requests(samples.postmark(mail(1)), odd)


def brevo(odd: Odd) -> Iterator[Request]:
    yield from json_requests(VALID["brevo"](1), odd)


def ses(odd: Odd) -> Iterator[Request]:
    message = samples.ses_message(mail(1))
    for inner in variants(json.loads(message["Message"]), odd):
        yield samples.sns({**message, "Message": json.dumps(inner)})


def resend(odd: Odd) -> Iterator[Request]:
    for number, request in enumerate(json_requests(VALID["resend"](1), odd)):
        yield replace(request, headers={**samples.JSON, **samples.svix(request.body, id_=f"odd_{number}")})


def sendgrid(odd: Odd) -> Iterator[Request]:
    envelope = {"to": [samples.AGENT], "from": "anna@example.test"}
    for other in variants(envelope, odd):
        yield samples.sendgrid(mail(1), fields={"envelope": json.dumps(other)})
    texts = {
        "to": samples.AGENT,
        "from": "anna@example.test",
        "subject": "Hi",
        "text": "Yes.",
        "html": "<p>Yes.",
    }
    headers = "From: anna@example.test\nMessage-ID: <s1@example.test>"
    for parsed in (None, ""):
        source = mail(1) if parsed is None else b""
        extra = {} if parsed is None else {"email": None}
        yield from forms(
            lambda fields, source=source, extra=extra: samples.sendgrid(source, fields={**fields, **extra}),  # type: ignore[misc]
            {**texts, "headers": headers, "charsets": '{"text": "utf-8"}', "SPF": "pass", "dkim": "none"},
            odd,
        )


def mailgun(odd: Odd) -> Iterator[Request]:
    fields: dict[str, Any] = {
        "recipient": samples.AGENT,
        "sender": "anna@example.test",
        "subject": "Hi",
        "body-plain": "Yes.",
        "body-html": "<p>Yes.",
        "content-id-map": '{"<a>": "attachment-1"}',
    }
    headers = [["From", "anna@example.test"], ["Message-Id", "<p1@example.test>"], ["Subject", "Hi"]]

    def make(changed: dict[str, Any]) -> Request:
        whole = {"message-headers": json.dumps(headers), **changed, **samples.mailgun_proof()}
        return Request("/email/incoming/mailgun", samples.multipart(list(whole.items())), samples.FORM)

    yield from forms(make, fields, odd)
    for other in variants(headers, odd):
        yield make({**fields, "message-headers": json.dumps(other)})


def cloudmailin(odd: Odd) -> Iterator[Request]:
    fields: dict[str, Any] = {
        "envelope[to]": samples.AGENT,
        "envelope[recipients][0]": samples.AGENT,
        "envelope[from]": "anna@example.test",
        "envelope[spf][result]": "pass",
        "envelope[spf][domain]": "example.test",
    }

    def make(changed: dict[str, Any]) -> Request:
        form = samples.multipart([*changed.items(), ("message", mail(1))])
        proof = samples.basic(samples.CLOUDMAILIN)
        return Request("/email/incoming/cloudmailin", form, {**samples.FORM, **proof})

    yield from forms(make, fields, odd)


WAYS = [signed, postmark, brevo, ses, resend, sendgrid, mailgun, cloudmailin]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("odd", ODD)
def test_a_field_that_makes_no_sense_leaves_a_whole_record_or_none(
    make: Make, way: Callable[[Odd], Iterator[Request]], odd: str
) -> None:
    client = make()
    messages = app_of(client).store.messages
    requests = list(way(ODD[odd]))
    assert len(requests) >= 5
    for request in requests:
        for _ in range(2):  # the provider repeats what was not taken
            answer = send(client, request)
            assert answer.status_code < 500, answer.text
            said = answer.get_json(silent=True) or {}
            if "id" in said:
                assert messages.get(said["id"]).thread_id == said["thread_id"]
                assert messages.source(said["id"]) is not None


@pytest.mark.parametrize("odd", ODD)
def test_what_resend_says_of_a_mail_makes_no_sense(make: Make, web: Web, odd: str) -> None:
    client = make()
    url, told = next((url, json.loads(body)) for url, body in web.answers.items() if "api." in url and body)  # type: ignore[arg-type]
    for number, other in enumerate(variants({**told, "raw": None}, ODD[odd])):
        web.answers[url] = json.dumps(other).encode()
        request = VALID["resend"](1)
        request = replace(request, headers={**samples.JSON, **samples.svix(request.body, id_=f"m{number}")})
        answer = send(client, request)
        assert answer.status_code in (200, 406, 503), answer.text
        if "id" in answer.json:
            app_of(client).store.messages.get(answer.json["id"])

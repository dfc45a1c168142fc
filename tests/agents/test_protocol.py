from __future__ import annotations

import base64
import json

import pytest
from pydantic import ValidationError
from pydantic_core import to_json

from cleo_email.agents.base import AgentAttachment, AgentMessage, AgentRequest, HistoryTurn
from cleo_email.mail.model import AttachedFile


def test_the_request_is_the_contracts_json_field_for_field() -> None:
    request = AgentRequest(
        id="r1",
        thread_id="<t@example.com>",
        message=AgentMessage(
            message_id="<m@example.com>",
            from_address="anna@example.com",
            from_name="Anna",
            to_address="cleo@example.org",
            cc=("bert@example.com",),
            subject="S",
            text="neu",
            full_text="neu\n> alt",
            date="2026-11-02T10:00:00+01:00",
            authenticated=True,
            attachments=(AgentAttachment.of(AttachedFile("a.bin", "application/x-a", b"\x00\xff")),),
            notes=("hidden text dropped",),
        ),
        history=(HistoryTurn(role="user", content="vorher"),),
        workflow={"id": "w", "data": {"n": 1}},
        language="de",
        model="m",
    )
    expected = {
        "id": "r1",
        "channel": "email",
        "thread_id": "<t@example.com>",
        "message": {
            "message_id": "<m@example.com>",
            "from_address": "anna@example.com",
            "from_name": "Anna",
            "to_address": "cleo@example.org",
            "cc": ["bert@example.com"],
            "subject": "S",
            "text": "neu",
            "full_text": "neu\n> alt",
            "date": "2026-11-02T10:00:00+01:00",
            "authenticated": True,
            "attachments": [
                {
                    "filename": "a.bin",
                    "content_type": "application/x-a",
                    "size": 2,
                    "content": base64.b64encode(b"\x00\xff").decode(),
                }
            ],
            "notes": ["hidden text dropped"],
        },
        "history": [{"role": "user", "content": "vorher"}],
        "workflow": {"id": "w", "data": {"n": 1}},
        "language": "de",
        "model": "m",
    }
    assert json.loads(to_json(request)) == expected
    assert request.model_dump(mode="json") == expected


def test_without_a_mail_the_message_is_there_and_empty() -> None:
    request = AgentRequest(id="r1", thread_id="<t@example.com>", workflow={"id": "w"})
    message = json.loads(to_json(request))["message"]
    assert message["text"] == ""
    assert message["attachments"] == []
    assert message["date"] is None


def test_lone_surrogates_and_nan_never_reach_the_wire() -> None:
    request = AgentRequest(
        id="r1",
        thread_id="t\ud800",
        message=AgentMessage(text="x\udfffy", cc=("\ud801",)),
        history=(HistoryTurn(role="user", content="\udc00"),),
        workflow={"a": float("nan"), "\ud800": ["\udbff"]},
    )
    sent = json.loads(to_json(request).decode("utf-8"))
    assert sent["message"]["text"] == "x\ufffdy"
    assert sent["message"]["cc"] == ["\ufffd"]
    assert sent["workflow"] == {"a": None, "\ufffd": ["\ufffd"]}


def test_a_request_is_frozen_and_its_faults_do_not_show_the_mail() -> None:
    message = AgentMessage(text="streng geheim-4711-3f9c")
    with pytest.raises(ValidationError):
        message.text = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError) as caught:
        AgentMessage(text=["streng geheim-4711-3f9c"])  # type: ignore[arg-type]
    assert "geheim-4711-3f9c" not in str(caught.value)
    assert "geheim-4711-3f9c" not in repr(message)


@pytest.mark.parametrize("id_", ["", "a b", "a\r\nX: y", "ü"])
def test_an_id_that_no_header_can_carry_is_refused(id_: str) -> None:
    with pytest.raises(ValidationError):
        AgentRequest(id=id_, thread_id="t")


def test_a_workflow_nested_beyond_reason_is_refused_and_does_not_overflow() -> None:
    deep: dict[str, object] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    with pytest.raises(ValidationError):
        AgentRequest(id="r", thread_id="t", workflow=deep)

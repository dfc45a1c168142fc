"""The description for programs: complete, in step with the models, and true."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from pydantic import BaseModel

from cleo_email import __version__
from cleo_email.settings import read_settings
from cleo_email.store import Record, State
from cleo_email.web.app import create_app
from cleo_email.web.models import (
    ApproveFields,
    FileFields,
    IncomingFields,
    MessagesQuery,
    ReasonFields,
    SendFields,
    WorkflowFields,
)
from tests.support.channel import ROOT, Channel
from tests.support.mails import AGENT, PASSWORD
from tests.support.smtp_server import SmtpServer
from tests.support.web import BASE

UNDESCRIBED = {"/", "/openapi.json", "/docs"}  # pages, and the description itself
WEBHOOK = "200 202 400 403 404 413 415 422 429 503"
POSTED = "202 400 401 404 409 413 415 422 429 503"
CODES = {
    ("post", "/email/incoming"): WEBHOOK,
    ("post", "/email/incoming/raw"): WEBHOOK,
    ("post", "/email/incoming/{provider}"): "200 400 401 403 404 406 413 422 429 503",
    ("post", "/email/send"): POSTED,
    ("post", "/workflows"): POSTED,
    ("get", "/email/messages"): "200 401 404 422 429 503",
    ("get", "/email/messages/{id}"): "200 401 404 429 503",
    **{
        ("post", f"/email/messages/{{id}}/{action}"): "200 400 401 404 409 413 415 422 429 503"
        for action in ("approve", "discard", "release", "dismiss", "retry")
    },
    **{
        ("post", f"/email/messages/{{id}}/{action}"): "200 400 401 404 413 415 422 429 503"
        for action in ("takeover", "handback")  # no state refuses them
    },
    ("post", "/email/answers/{id}"): "200 400 401 404 409 413 415 422 429 503",
    ("get", "/email/threads"): "200 401 404 422 429 503",
    ("get", "/healthz"): "200",
    ("get", "/readyz"): "200 503",
    ("get", "/metrics"): "200 401 404 429 503",
}
BODIES: dict[str, type[BaseModel]] = {
    "FileFields": FileFields,
    "SendFields": SendFields,
    "WorkflowFields": WorkflowFields,
    "IncomingFields": IncomingFields,
    "ApproveFields": ApproveFields,
    "ReasonFields": ReasonFields,
}


@pytest.fixture
def app(redis_url: str) -> Flask:
    env = {**BASE, "REDIS_URL": redis_url, "EMAIL_MAILGUN_SIGNING_KEY": "k"}
    return create_app(read_settings(env, dotenv=None))


def described(app: Flask) -> dict[str, Any]:
    answer = app.test_client().get("/openapi.json")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json
    return found


def test_every_route_is_described_and_nothing_else(app: Flask) -> None:
    def plain(path: str) -> str:
        return re.sub(r"[<{][^>}]*[>}]", "{}", path)

    routes = {
        (plain(rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if not rule.endpoint.endswith("static")
        and rule.rule not in UNDESCRIBED
        and not rule.rule.startswith("/operator/")  # pages for people
    }
    paths = described(app)["paths"]
    assert {(plain(path), method) for path, methods in paths.items() for method in methods} == routes


def test_every_operation_names_its_codes_and_the_file_has_the_version_of_the_package(app: Flask) -> None:
    document = described(app)
    assert document["info"]["version"] == __version__
    found = {
        (method, path): " ".join(sorted(operation["responses"]))
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert found == CODES


def test_each_code_says_what_it_means_for_that_call(app: Flask) -> None:
    """The page shows these words below the call: what is true of another call only would mislead there."""
    meaning = {
        (method, path, code): response["description"]
        for path, methods in described(app)["paths"].items()
        for method, operation in methods.items()
        for code, response in operation["responses"].items()
    }
    assert all(meaning.values())
    done = [words for (_, path, code), words in meaning.items() if code < "300" and "incoming" not in path]
    assert len(set(done)) == len(done), "success of two calls in the same words"
    refused = [words for (_, _, code), words in meaning.items() if code == "409"]
    assert len(set(refused)) == len(refused)
    assert not [key for key, words in meaning.items() if key[0] == "get" and "stored" in words]
    for (_, path, code), words in meaning.items():
        assert ("token" in words or "password" in words) if code == "401" else True
        assert ("secret" if "/incoming" in path else "token") in words if code == "429" else True


@pytest.mark.parametrize("name", BODIES)
def test_the_fields_of_a_body_are_those_of_its_model(app: Flask, name: str) -> None:
    schema, fields = described(app)["components"]["schemas"][name], BODIES[name].model_fields
    assert list(schema["properties"]) == list(fields)
    assert schema["required"] == [key for key, field in fields.items() if field.is_required()]
    assert (schema.get("additionalProperties") is False) == (
        BODIES[name].model_config.get("extra") == "forbid"
    )


def test_records_and_the_query_for_them_are_described_as_they_are(app: Flask) -> None:
    document = described(app)
    schemas = document["components"]["schemas"]
    assert schemas["State"]["enum"] == [str(state) for state in State]
    assert list(schemas["Message"]["properties"]) == list(Record("0", State.RECEIVED, "t", 0).public())
    query = document["paths"]["/email/messages"]["get"]["parameters"]
    assert [one["name"] for one in query] == list(MessagesQuery.model_fields)


def test_a_default_is_a_value_that_its_own_schema_allows(app: Flask) -> None:
    """Validators of such documents refuse them otherwise, and programs that are made of them go wrong."""
    validator = pytest.importorskip("jsonschema_rs").Draft202012Validator

    def schemas(value: object) -> Iterator[dict[str, Any]]:
        if isinstance(value, dict):
            if "default" in value and ("type" in value or "anyOf" in value or "$ref" in value):
                yield value
            for item in value.values():
                yield from schemas(item)
        elif isinstance(value, list):
            for item in value:
                yield from schemas(item)

    def without_patterns(value: Any) -> Any:
        """Some of them repeat more often than this validator's machine can hold."""
        if isinstance(value, dict):
            return {name: without_patterns(item) for name, item in value.items() if name != "pattern"}
        return [without_patterns(item) for item in value] if isinstance(value, list) else value

    document = without_patterns(described(app))
    found = list(schemas(document))
    assert len(found) > 5
    wrong = [
        schema
        for schema in found
        if not validator({**schema, "components": document["components"]}).is_valid(schema["default"])
    ]
    assert wrong == []


def test_requests_are_described_by_the_models_that_validate_them(app: Flask) -> None:
    document = described(app)
    schemas = document["components"]["schemas"]
    assert {"to", "cc", "subject", "body", "thread_id", "attachments"} == set(
        schemas["SendFields"]["properties"]
    )
    assert schemas["SendFields"]["required"] == ["to", "subject", "body"]
    assert schemas["WorkflowFields"]["required"] == ["workflow_id", "user_ids", "channel"]
    assert {"from_address", "to_address", "subject", "body"} == set(schemas["IncomingFields"]["required"])
    send = document["paths"]["/email/send"]["post"]
    assert set(send["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
    assert {"202", "400", "401", "404", "409", "413", "415", "422", "503"} <= set(send["responses"])
    providers = document["paths"]["/email/incoming/{provider}"]["post"]["parameters"][0]["schema"]["enum"]
    assert providers == ["mailgun"]
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', str(document).replace("'", '"')))
    assert references <= set(schemas)


def test_a_provider_that_is_not_set_up_is_not_described(redis_url: str) -> None:
    app = create_app(read_settings({**BASE, "REDIS_URL": redis_url}, dotenv=None))
    assert not any("provider" in path for path in described(app)["paths"])


def test_a_token_and_a_secret_are_asked_for_only_where_they_are_set(redis_url: str, app: Flask) -> None:
    asked = {
        name for name, path in described(app)["paths"].items() for one in path.values() if "security" in one
    }
    assert asked == {"/email/answers/{id}"}, "whose token is in each request to the agent"
    env = {**BASE, "REDIS_URL": redis_url, "CLEO_API_TOKEN": "t", "EMAIL_WEBHOOK_SECRET": "s"}
    paths = described(create_app(read_settings(env, dotenv=None)))["paths"]
    assert paths["/email/send"]["post"]["security"] == [{"api": []}]
    assert paths["/email/incoming"]["post"]["security"] == [{"webhook": []}]
    assert "security" not in paths["/healthz"]["get"]


def test_the_page_runs_its_own_script_and_loads_nothing_from_elsewhere(app: Flask) -> None:
    answer = app.test_client().get("/docs")
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/html")
    page = answer.get_data(as_text=True)
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page)
    assert "innerHTML" not in page
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert len(re.findall(r"sha256-[A-Za-z0-9+/]{43}=", policy)) == 2


@pytest.fixture
def live(tmp_path: Path, redis_url: str) -> Iterator[Channel]:
    with SmtpServer(passwords={AGENT: PASSWORD}) as smtp:
        ca = tmp_path / "ca.pem"
        ca.write_bytes(smtp.ca.cert_pem.bytes())
        env = {
            "EMAIL_SMTP_HOST": "127.0.0.1",
            "EMAIL_SMTP_PORT": str(smtp.port),
            "REDIS_URL": redis_url,
            "SSL_CERT_FILE": str(ca),
            "EMAIL_MAILGUN_SIGNING_KEY": "key",
            "EMAIL_POSTMARK_AUTH": "user:password",
        }
        with Channel(tmp_path, env) as channel:
            channel.start_web()
            channel.start_worker()
            channel.wait(lambda: channel.get("/readyz")[0] == 200)
            yield channel


def test_schemathesis_finds_no_difference_between_the_description_and_the_application(live: Channel) -> None:
    """All its checks, on real processes: no 500, every answer as described, what is not described refused."""
    pytest.importorskip("schemathesis")
    url = f"http://127.0.0.1:{live.port}/openapi.json"
    options = ["-n", "10", "--seed", "1", "--generation-database", "none", "--no-color"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "schemathesis.cli",
            "run",
            url,
            *options,
            "--phases",
            "examples,coverage,fuzzing",
        ],
        cwd=live.directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.support.schemathesis_hooks"},
        capture_output=True,
        text=True,
        timeout=300,  # on a busy machine; else half a minute
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert f"{len(CODES)} selected" in done.stdout, done.stdout[:2000]

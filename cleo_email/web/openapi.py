"""``/openapi.json`` (OpenAPI 3.1), made of the models that validate requests and make answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from cleo_email import __version__
from cleo_email.web.shapes import Failure

JSON = "application/json"
REF = "#/components/schemas/{model}"
Schema = dict[str, Any]
Model = type[BaseModel]

TEXTS = {
    200: "done before, or nothing to store",
    202: "stored durably",
    400: "the body cannot be read",
    401: "the token is missing or wrong; without CLEO_API_TOKEN, not a caller on this machine",
    403: "the secret or the signature is missing or wrong",
    404: "not found, or the channel is not enabled",
    406: "the provider is to give up",
    409: "the Idempotency-Key was used for another request",
    413: "larger than EMAIL_MAX_MESSAGE_BYTES",
    415: "another content type than those named",
    422: "fields that cannot be used, each with what to do",
    429: "too many requests with a wrong secret",
    503: "not stored, or not ready: try again",
}


@dataclass(frozen=True)
class Operation:
    """One endpoint. ``answers`` maps a status to the model of its body; those not named are ``Failure``.

    ``bodies`` maps a content type to a model, or to a schema for what is no JSON. ``secured`` is ``api``,
    ``webhook`` or empty.
    """

    method: str
    path: str
    summary: str
    answers: Mapping[int, Model]
    failures: tuple[int, ...] = ()
    bodies: Mapping[str, Model | Schema] = field(default_factory=dict)
    parameters: tuple[Schema, ...] = ()
    query: Model | None = None
    secured: str = ""

    @property
    def name(self) -> str:
        words = [word.strip("{}<>") for word in self.path.split("/") if word]
        return "_".join([self.method.lower(), *words]).replace(".", "_").replace("-", "_")


def document(operations: tuple[Operation, ...], *, token: bool, secret: bool) -> Schema:
    """The description of an application whose callers must (or need not) show a token and a secret."""
    schemas, components = _schemas(operations)
    paths: dict[str, Schema] = {}
    for operation in operations:
        secured = {"api": token, "webhook": secret}.get(operation.secured, False)
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(
            operation, schemas, secured=secured
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "cleo_email",
            "version": __version__,
            "description": "A mailbox for an AI agent: mail in, one threaded answer out.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "api": {"type": "http", "scheme": "bearer", "description": "CLEO_API_TOKEN"},
                "webhook": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-Webhook-Secret",
                    "description": "EMAIL_WEBHOOK_SECRET",
                },
            },
        },
    }


def _schemas(operations: tuple[Operation, ...]) -> tuple[dict[Model, Schema], Schema]:
    """A reference to each model, and the schemas of all of them."""
    told: list[Model] = [Failure, *(model for one in operations for model in one.answers.values())]
    asked = [body for one in operations for body in one.bodies.values() if isinstance(body, type)]
    wanted: list[Model] = list(dict.fromkeys([*asked, *told]))
    found, definitions = models_json_schema(
        [(model, _mode(model, told)) for model in wanted], ref_template=REF
    )
    return {model: found[model, _mode(model, told)] for model in wanted}, definitions.get("$defs", {})


def _mode(model: Model, told: list[Model]) -> Literal["validation", "serialization"]:
    return "serialization" if model in told else "validation"


def _operation(operation: Operation, schemas: Mapping[Model, Schema], *, secured: bool) -> Schema:
    described: Schema = {"operationId": operation.name, "summary": operation.summary}
    parameters = [*operation.parameters, *_query(operation.query)]
    if parameters:
        described["parameters"] = parameters
    if operation.bodies:
        content = {
            kind: {"schema": schemas[body] if isinstance(body, type) else body}
            for kind, body in operation.bodies.items()
        }
        described["requestBody"] = {"required": True, "content": content}
    answers = {status: _answer(status, schemas[model]) for status, model in operation.answers.items()}
    answers |= {status: _answer(status, schemas[Failure]) for status in operation.failures}
    described["responses"] = {str(status): answers[status] for status in sorted(answers)}
    if secured:
        described["security"] = [{operation.secured: []}]
    return described


def _query(model: Model | None) -> list[Schema]:
    properties = model.model_json_schema(ref_template=REF)["properties"] if model else {}
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "schema": {k: v for k, v in one.items() if k != "title"},
        }
        for name, one in properties.items()
    ]


def _answer(status: int, schema: Schema) -> Schema:
    answer: Schema = {"description": TEXTS[status], "content": {JSON: {"schema": schema}}}
    if status in (429, 503):
        answer["headers"] = {
            "Retry-After": {"description": "seconds", "required": False, "schema": {"type": "string"}}
        }
    return answer

"""Answers that agents give later: POST to the callback of the request."""

from functools import partial

from flask import Blueprint, Response

from cleo_email.crashpoints import crashpoint
from cleo_email.errors import AgentError
from cleo_email.pipeline.callback import read_given
from cleo_email.web.auth import require_answer_token
from cleo_email.web.bodies import RequestRefused, answer, answers_in_json, current, parse_json, read_body
from cleo_email.web.models import AnswerFields

bp = answers_in_json(Blueprint("answers", __name__))


@bp.post("/email/answers/<id_>")
def given(id_: str) -> Response:
    """Take the answer to the open question about a message; 200 once it is durable."""
    callbacks = current().callbacks
    number = require_answer_token(partial(callbacks.number, id_))
    fields = parse_json(read_body("application/json"), AnswerFields)
    try:
        found = read_given(fields.model_extra)
    except AgentError as fault:
        raise RequestRefused(422, str(fault), {"body": str(fault)}) from None
    del fields
    status = callbacks.give(id_, found, number)
    crashpoint("web-before-answer")
    return answer(200, {"id": id_, "status": status})

"""An agent behind an HTTP URL: the request goes out as JSON, the answer comes back as JSON."""

from __future__ import annotations

from pydantic_core import to_json

from cleo_email.agents.exchange import JsonService
from cleo_email.agents.final import final_answer
from cleo_email.agents.protocol import AgentRequest
from cleo_email.deadlines import Deadline
from cleo_email.mail.model import Answer


class HttpAgent:
    """POSTs each request to one URL. Keeps no state between calls."""

    def __init__(self, service: JsonService) -> None:
        self._service = service

    def __repr__(self) -> str:
        return str(self._service)

    def answer(self, request: AgentRequest, *, deadline: float) -> Answer:
        """See :class:`~cleo_email.agents.protocol.Agent`."""
        limit = Deadline(deadline)
        # Straight to bytes: a request with attachments is large, and each copy of it counts fifty times.
        return final_answer(self._service.ask(to_json(request), request.id, limit))

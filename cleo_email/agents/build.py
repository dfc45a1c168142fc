"""Build the agent that ``CLEO_AGENT`` names."""

import json
from collections.abc import Mapping

from cleo_email.agents.base import Agent, AgentRequest, final_answer
from cleo_email.agents.python import PythonAgent, load_callable, with_working_directory
from cleo_email.agents.spec import CallableSpec, ModelSpec, agent_fault, no_module, parse_spec
from cleo_email.errors import SettingsError
from cleo_email.mail.model import Answer


class EchoAgent:
    """Answers with the text of the mail, to the start of a workflow with the workflow: for demo and tests."""

    may_answer_later = False

    def __repr__(self) -> str:
        return "echo"

    def answer(self, request: AgentRequest, *, deadline: float) -> Answer:
        """Return the text of the mail at once; ``deadline`` is not used. Never raises."""
        text = request.message.text
        if not text.strip() and request.workflow is not None:
            shown = json.dumps(request.workflow, indent=2, ensure_ascii=False)
            text = "\n".join(f"    {line}" for line in shown.split("\n"))  # a code block in Markdown
        return final_answer({"reply": text})


def build_agent(spec: str, *, token: str | None, environ: Mapping[str, str]) -> Agent:
    """Return the agent that a value of ``CLEO_AGENT`` names; :mod:`cleo_email.agents.spec` has the rule.

    ``token`` is ``CLEO_AGENT_TOKEN``, ``environ`` has ``OPENAI_*``, ``SSL_CERT_*`` and ``*_PROXY``. Raise
    SettingsError with a line for each fault, which shows no secret.
    """
    with_working_directory()  # before the form of the value depends on which modules there are
    match wanted := parse_spec(spec):
        case None:
            return EchoAgent()
        case CallableSpec():
            return PythonAgent(load_callable(wanted), f"{wanted.module}:{wanted.name}")
        case ModelSpec():
            return _model(wanted, environ)
        case _:
            from cleo_email.agents.http import (
                HttpAgent,
                JsonService,
            )  # libcurl is large, and no function needs it

            return HttpAgent(JsonService("CLEO_AGENT", wanted.url, "CLEO_AGENT_TOKEN", token or "", environ))


def _model(wanted: ModelSpec, environ: Mapping[str, str]) -> Agent:
    from cleo_email.agents.http import JsonService
    from cleo_email.agents.openai import DEFAULT_BASE_URL, OpenAIAgent

    base = environ.get("OPENAI_BASE_URL", "").strip()
    key = environ.get("OPENAI_API_KEY", "").strip()
    if not base and wanted.provider != "openai":
        found = f"{wanted.provider}:{wanted.model}"
        choice = (
            f"a Python function ({no_module(wanted.provider)}), or a model whose server OPENAI_BASE_URL names"
        )
        raise agent_fault(found, choice)
    if not key and not base:  # servers of one's own often want none
        raise SettingsError(
            ["OPENAI_API_KEY: found nothing, expected the key for the chat completions server"]
        )
    url = base or DEFAULT_BASE_URL
    service = JsonService("OPENAI_BASE_URL", url, "OPENAI_API_KEY", key, environ, path="/chat/completions")
    return OpenAIAgent(service, wanted)

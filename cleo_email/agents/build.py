"""Build the agent that ``CLEO_AGENT`` names."""

import json
from collections.abc import Mapping

from cleo_email.agents.base import Agent, AgentRequest, final_answer
from cleo_email.agents.http import HttpAgent, JsonService
from cleo_email.agents.openai import DEFAULT_BASE_URL, OpenAIAgent
from cleo_email.agents.python import PythonAgent, load_callable, with_working_directory
from cleo_email.agents.spec import CallableSpec, ModelSpec, parse_spec
from cleo_email.errors import SettingsError
from cleo_email.mail.model import Answer


class EchoAgent:
    """Answers with the text of the mail, to the start of a workflow with the workflow: for demo and tests."""

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
    if ":" in spec and "://" not in spec:
        with_working_directory()
    match wanted := parse_spec(spec):
        case None:
            return EchoAgent()
        case CallableSpec():
            return PythonAgent(load_callable(wanted), f"{wanted.module}:{wanted.name}")
        case ModelSpec():
            return _model(wanted, environ)
        case _:
            return HttpAgent(JsonService("CLEO_AGENT", wanted.url, "CLEO_AGENT_TOKEN", token or "", environ))


def _model(wanted: ModelSpec, environ: Mapping[str, str]) -> Agent:
    base = environ.get("OPENAI_BASE_URL", "").strip()
    key = environ.get("OPENAI_API_KEY", "").strip()
    faults = []
    if not base and wanted.provider != "openai":
        faults.append(
            f"OPENAI_BASE_URL: found nothing, expected the URL of the chat completions server of "
            f"{wanted.provider!r} (if CLEO_AGENT was to be a Python callable: there is no such module)"
        )
    if not key and not base:  # servers of one's own often want none
        faults.append("OPENAI_API_KEY: found nothing, expected the key for the chat completions server")
    if faults:
        raise SettingsError(faults)
    url = base or DEFAULT_BASE_URL
    service = JsonService("OPENAI_BASE_URL", url, "OPENAI_API_KEY", key, environ, path="/chat/completions")
    return OpenAIAgent(service, wanted)

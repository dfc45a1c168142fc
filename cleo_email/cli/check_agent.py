"""What ``cleo-email check`` says of the agent. No question is asked: an answer may cost money."""

from __future__ import annotations

import os

from cleo_email.agents import build_agent
from cleo_email.agents.openai import DEFAULT_BASE_URL, OpenAIAgent
from cleo_email.cli.finding import Finding
from cleo_email.deadlines import Deadline
from cleo_email.errors import CleoError, SettingsError
from cleo_email.http import (
    HttpClient,
    TlsFailed,
    UntrustedCertificate,
    proxy_address,
    trust_store,
    web_address,
)
from cleo_email.settings import Settings

REACH_S = 10.0


def examine_agent(settings: Settings) -> list[Finding]:
    token = settings.agent_token.get_secret_value() if settings.agent_token else None
    try:
        agent = build_agent(settings.agent, token=token, environ=os.environ)
    except SettingsError as error:
        return [Finding("agent", "wrong", fault) for fault in error.faults]
    if settings.agent == "echo":
        return [Finding("agent", "warning", "CLEO_AGENT is echo: mail is answered with its own text")]
    try:
        if isinstance(agent, OpenAIAgent):
            url = os.environ.get("OPENAI_BASE_URL", "").strip() or DEFAULT_BASE_URL
            text = f"{_reached('OPENAI_BASE_URL', url)}; key and model are tested by the first mail"
        elif "://" in settings.agent:
            text = f"{_reached('CLEO_AGENT', settings.agent)}; path and token are tested by the first mail"
        else:
            text = f"{settings.agent} was found"
    except CleoError as error:
        return [Finding("agent", "wrong", str(error))]
    return [Finding("agent", "ok", text)]


def _reached(variable: str, url: str) -> str:
    """That somebody listens at ``url``, which ``variable`` names. Raises CleoError."""
    address = web_address(variable, url)
    proxy = proxy_address(address, os.environ)
    client = HttpClient(address, proxy=proxy, trust=trust_store(os.environ) if address.tls else None)
    place = f"{address.host}:{address.port}"
    way = f" through the proxy {proxy.host}:{proxy.port}" if proxy else ""
    try:
        client.reach(Deadline(REACH_S))
    except UntrustedCertificate as error:
        raise CleoError(f"{place}: {error} (a private CA: SSL_CERT_FILE)") from None
    except OSError as error:
        plain = isinstance(error, TlsFailed) and error.plain
        fault = "does not speak TLS: http://?" if plain else f"cannot be reached{way}: {error}"
        raise CleoError(f"{place} {fault} ({variable})") from None
    return f"{place} answers{way}"

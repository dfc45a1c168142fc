"""``cleo-email login``: a person lets the agent into the mailbox, once, without giving it a password."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping

from cleo_email.embedded.redis import embedded_redis
from cleo_email.errors import CleoError, SettingsError
from cleo_email.front import build_front
from cleo_email.oauth import PROVIDERS, Endpoint, OAuthClient, Tokens, device, loopback
from cleo_email.oauth.client import CLIENT_CREDENTIALS, GOOGLE
from cleo_email.services import token_source
from cleo_email.settings import Settings, gather, read_settings

WAIT_S = 900.0


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "login", help="log in to the mailbox at Google or Microsoft with a browser (OAuth 2.0)"
    )
    parser.add_argument("provider", nargs="?", choices=list(PROVIDERS), help="default: EMAIL_OAUTH_PROVIDER")
    parser.add_argument(
        "--browser",
        action="store_true",
        help="with Microsoft: the flow by way of this machine's browser instead of a code to be entered",
    )
    parser.add_argument(
        "--paste",
        action="store_true",
        help="the browser runs elsewhere: paste the address here that it could not open",
    )
    parser.add_argument("--port", type=int, default=0, help="of 127.0.0.1, for the browser's way back")
    parser.set_defaults(call=_login)


def _login(arguments: argparse.Namespace) -> int:
    given: str = arguments.provider or ""
    named = {"EMAIL_OAUTH_PROVIDER": given} if given else {}
    settings = read_settings(defaults={**embedded_redis(), **named})
    client = settings.oauth
    if client is None:
        raise CleoError("say whom to log in with: cleo-email login google, or cleo-email login microsoft")
    _refuse_contradictions(settings, client, given)
    front = build_front(settings)
    source = token_source(settings, front)
    assert source is not None
    tokens = _ask(arguments, settings, client, os.environ)
    if not tokens.refresh_token:
        raise CleoError(
            "the server gave no refresh token, so the login would end within the hour; Microsoft needs the "
            "scope offline_access, Google a client of the type Desktop app"
        )
    source.adopt(tokens)
    front.store.pulse.fresh_start()
    print(f"logged in as {settings.user}; the login is saved, encrypted. Next: cleo-email check")
    if given and "EMAIL_OAUTH_PROVIDER" not in gather():
        print(f"For every process set EMAIL_OAUTH_PROVIDER={given}")
    return 0


def _refuse_contradictions(settings: Settings, client: OAuthClient, given: str) -> None:
    if given and settings.oauth_provider != given:
        found = settings.oauth_provider or "nothing"
        raise SettingsError([f"EMAIL_OAUTH_PROVIDER: found {found}, expected {given}, which you log in with"])
    if client.grant == CLIENT_CREDENTIALS:
        raise CleoError(
            "with EMAIL_OAUTH_CLIENT_SECRET the client acts by itself and nobody has to log in; to log in as "
            "a person set EMAIL_OAUTH_GRANT=refresh_token"
        )


def _ask(
    arguments: argparse.Namespace, settings: Settings, client: OAuthClient, environ: Mapping[str, str]
) -> Tokens:
    token = Endpoint("EMAIL_OAUTH_TOKEN_URL", client.token_url, environ)
    by_code = client.provider != GOOGLE.name and client.device_url
    if by_code and not (arguments.browser or arguments.paste):
        return device.log_in(
            client, Endpoint("EMAIL_OAUTH_DEVICE_URL", client.device_url, environ), token, _say
        )
    if not client.authorization_url:
        raise SettingsError(["EMAIL_OAUTH_AUTHORIZATION_URL: found nothing, expected where people log in"])
    with loopback.Listener(arguments.port) as listener:
        attempt = listener.attempt
        _say(
            f"Open this in a browser and log in as {settings.user}:\n\n{attempt.url(client, settings.user)}\n"
        )
        if arguments.paste:
            _say("The browser then cannot open an address of 127.0.0.1: paste that address here.")
            address = sys.stdin.readline()
        else:
            _say("Waiting. If that browser runs on another machine: cleo-email login --paste")
            address = listener.wait(WAIT_S)
    return attempt.tokens(client, token, address)


def _say(text: str) -> None:
    print(text, flush=True)

"""``cleo-email login``: log in to the mailbox once with OAuth, in place of a password."""

import os
import sys
from functools import partial

import click

from cleo_email.app import App
from cleo_email.cli.command import SettingsCommand, settings_here
from cleo_email.errors import CleoError, SettingsError
from cleo_email.oauth.client import CLIENT_CREDENTIALS, GOOGLE, PROVIDERS, OAuthClient
from cleo_email.oauth.endpoint import Endpoint, Tokens
from cleo_email.oauth.login import RedirectListener, log_in_by_code
from cleo_email.settings import Settings, gather

WAIT_S = 900.0
_say = partial(print, flush=True)


@click.command(cls=SettingsCommand)
@click.argument("provider", required=False, type=click.Choice(list(PROVIDERS)))
@click.option("--browser", is_flag=True, help="With Microsoft: by this machine's browser instead of a code.")
@click.option("--paste", is_flag=True, help="The browser runs elsewhere: paste the address that fails there.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="For the browser's way back (any).")
def login(provider: str | None, browser: bool, paste: bool, port: int) -> None:
    """Log in to the mailbox at Google or Microsoft with a browser (OAuth 2.0).

    Without a name at the one of EMAIL_OAUTH_PROVIDER. The login is kept in Redis, encrypted.
    """
    settings = settings_here(**({"EMAIL_OAUTH_PROVIDER": provider} if provider else {}))
    client = settings.oauth
    if client is None:
        raise CleoError("say whom to log in with: cleo-email login google, or cleo-email login microsoft")
    if provider and settings.oauth_provider != provider:
        found = settings.oauth_provider or "nothing"
        raise SettingsError(
            [f"EMAIL_OAUTH_PROVIDER: found {found}, expected {provider}, which you log in with"]
        )
    if client.grant == CLIENT_CREDENTIALS:
        raise CleoError(
            "with EMAIL_OAUTH_CLIENT_SECRET the client acts by itself and nobody has to log in; to log in as "
            "a person set EMAIL_OAUTH_GRANT=refresh_token"
        )
    app = App(settings)
    source = app.token_source
    assert source is not None
    by_code = client.device_url and client.provider != GOOGLE.name and not (browser or paste)
    token_url = Endpoint("EMAIL_OAUTH_TOKEN_URL", client.token_url, os.environ)
    if by_code:
        device_url = Endpoint("EMAIL_OAUTH_DEVICE_URL", client.device_url, os.environ)
        tokens = log_in_by_code(client, device_url, token_url, _say)
    else:
        tokens = _use_browser(settings, client, token_url, port, paste=paste)
    if not tokens.refresh_token:
        raise CleoError(
            "the server gave no refresh token, so the login would end within the hour; Microsoft needs the "
            "scope offline_access, Google a client of the type Desktop app"
        )
    source.adopt(tokens)
    app.store.health.fresh_start()
    print(f"logged in as {settings.user}; the login is saved, encrypted. Next: cleo-email check")
    if provider and "EMAIL_OAUTH_PROVIDER" not in gather():
        print(f"For every process set EMAIL_OAUTH_PROVIDER={provider}")


def _use_browser(
    settings: Settings, client: OAuthClient, token_url: Endpoint, port: int, *, paste: bool
) -> Tokens:
    if not client.authorization_url:
        raise SettingsError(["EMAIL_OAUTH_AUTHORIZATION_URL: found nothing, expected where people log in"])
    with RedirectListener(port) as listener:
        attempt = listener.login
        address = attempt.url(client, settings.user)
        _say(f"Open this in a browser and log in as {settings.user}:\n\n{address}\n")
        if paste:
            _say("The browser then cannot open an address of 127.0.0.1: paste that address here.")
            address = sys.stdin.readline()
        else:
            _say("Waiting. If that browser runs on another machine: cleo-email login --paste")
            address = listener.wait(WAIT_S)
    return attempt.tokens(client, token_url, address)

"""EMAIL_PROVIDER and EMAIL_OAUTH_…: what they fill in, what they lack, what ``check`` says of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cleo_email.cli.check import CheckResult, _with_needs, examine
from cleo_email.errors import SettingsError
from cleo_email.settings import Settings, read_settings
from cleo_email.settings.providers import find_preset, presets
from tests.support.channel import ROOT
from tests.support.smtp_server import SmtpServer

KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
BASE = {"ENABLED_CLIENTS": "email", "EMAIL_USER": "agent@example.com", "EMAIL_PASSWORD": "hunter2"}
OAUTH = {
    "ENABLED_CLIENTS": "email",
    "EMAIL_USER": "agent@example.com",
    "EMAIL_SMTP_HOST": "smtp.example.com",
    "EMAIL_OAUTH_CLIENT_ID": "id",
    "CLEO_SECRET_KEY": KEY,
}


def read(base: dict[str, str], **env: str) -> Settings:
    return read_settings({**base, **env}, dotenv=None)


def faults(base: dict[str, str], **env: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        read_settings({**base, **env}, dotenv=None)
    return caught.value.faults


@pytest.mark.parametrize("name", presets())
def test_each_provider_is_complete_and_safe(name: str) -> None:
    settings = read(BASE, EMAIL_PROVIDER=name)
    preset = presets()[name]
    assert settings.imap is not None, "the inbox is polled"
    assert (settings.smtp.host, settings.smtp.port) == (preset.smtp_host, preset.smtp_port)
    assert (settings.imap.host, settings.imap.port) == (preset.imap_host, 993)
    assert settings.smtp.port in (465, 587)
    assert re.fullmatch(r"[a-z0-9.-]+\.[a-z]{2,}", settings.smtp.host)
    assert len(preset.needs) > 20
    assert settings.preset == preset


def test_what_is_set_by_hand_wins_and_a_host_keeps_its_own_port() -> None:
    settings = read(BASE, EMAIL_PROVIDER="strato", EMAIL_SMTP_HOST="relay.example.com")
    assert (settings.smtp_host, settings.smtp_port) == ("relay.example.com", 587)
    assert settings.imap_host == "imap.strato.de"
    assert read(BASE, EMAIL_PROVIDER="strato", EMAIL_SMTP_PORT="587").smtp_port == 587


@pytest.mark.parametrize("name", ["Gmail", "GMX", "web.de", "office365", "t-online", "MAILBOX.ORG"])
def test_common_spellings(name: str) -> None:
    assert read(BASE, EMAIL_PROVIDER=name).smtp_host


def test_an_unknown_provider_is_told_the_names() -> None:
    lines = faults(BASE, EMAIL_PROVIDER="gnail")
    assert any(line.startswith("EMAIL_PROVIDER: found 'gnail', expected one of gmail, ") for line in lines)
    assert all(name in lines[0] for name in presets())


def test_servers_set_by_hand_are_recognised_for_their_needs() -> None:
    settings = read(BASE, EMAIL_SMTP_HOST="mail.gmx.net")
    assert settings.preset is find_preset("gmx")
    assert read(BASE, EMAIL_SMTP_HOST="smtp.example.com").preset is None


def test_check_says_what_the_provider_needs_when_it_refuses_a_login(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with SmtpServer(passwords={"agent@example.com": "another"}) as server:
        ca = tmp_path / "ca.pem"
        ca.write_bytes(server.ca.cert_pem.bytes())
        monkeypatch.chdir(tmp_path)
        for name, value in {
            **BASE,
            "EMAIL_PROVIDER": "webde",
            "EMAIL_SMTP_HOST": "127.0.0.1",
            "EMAIL_SMTP_PORT": str(server.port),
            "EMAIL_IMAP_HOST": "127.0.0.1",
            "EMAIL_IMAP_PORT": "1",
            "REDIS_URL": f"unix://{tmp_path}/nothing.sock",
            "SSL_CERT_FILE": str(ca),
        }.items():
            monkeypatch.setenv(name, value)
        findings = {finding.what: finding for finding in examine()}
    assert "POP3/IMAP" in findings["provider"].text
    assert "535" in findings["smtp"].text
    assert "application password" in findings["smtp"].text
    assert findings["imap"].level == "wrong"
    assert "application password" not in findings["imap"].text, "nobody refused a login there"


def test_with_a_token_it_says_what_the_token_lacks() -> None:
    settings = read(OAUTH, EMAIL_OAUTH_PROVIDER="microsoft", EMAIL_SMTP_HOST="smtp.office365.com")
    refused = CheckResult("smtp", "wrong", "the server refuses the login of agent@example.com: 535 5.7.3")
    assert "SmtpClientAuthenticationDisabled" in _with_needs(settings, refused).text
    ended = CheckResult("smtp", "wrong", "the login has ended: run `cleo-email login microsoft`")
    assert _with_needs(settings, ended) == ended
    fine = CheckResult("smtp", "ok", "logged in")
    assert _with_needs(settings, fine) == fine


# --- OAuth --------------------------------------------------------------------------------------------------


def test_with_oauth_no_password_is_required() -> None:
    client = read(OAUTH, EMAIL_OAUTH_PROVIDER="Microsoft").oauth
    assert client is not None
    assert client.token_url == "https://login.microsoftonline.com/organizations/oauth2/v2.0/token"
    assert client.grant == "refresh_token"
    assert client.scope.split() == [
        "https://outlook.office.com/IMAP.AccessAsUser.All",
        "https://outlook.office.com/SMTP.Send",
        "offline_access",
    ]
    assert read(BASE, EMAIL_SMTP_HOST="x.example").oauth is None


def test_google_by_its_own_addresses() -> None:
    client = read(OAUTH, EMAIL_OAUTH_PROVIDER="google", EMAIL_OAUTH_CLIENT_SECRET="s").oauth
    assert client is not None
    assert client.token_url == "https://oauth2.googleapis.com/token"
    assert (client.scope, client.grant) == ("https://mail.google.com/", "refresh_token")


def test_a_microsoft_client_with_a_secret_acts_by_itself() -> None:
    env = {
        "EMAIL_OAUTH_PROVIDER": "microsoft",
        "EMAIL_OAUTH_CLIENT_SECRET": "s",
        "EMAIL_OAUTH_TENANT": "example.onmicrosoft.com",
    }
    client = read(OAUTH, **env).oauth
    assert client is not None
    assert client.grant == "client_credentials"
    assert client.scope == "https://outlook.office365.com/.default"
    assert "/example.onmicrosoft.com/" in client.token_url
    personal = read(OAUTH, **env, EMAIL_OAUTH_GRANT="refresh_token").oauth
    assert personal is not None
    assert personal.grant == "refresh_token"


@pytest.mark.parametrize(
    ("env", "names"),
    [
        ({"EMAIL_OAUTH_PROVIDER": "google", "EMAIL_OAUTH_CLIENT_ID": ""}, ["CLIENT_ID", "CLIENT_SECRET"]),
        ({"EMAIL_OAUTH_PROVIDER": "microsoft", "EMAIL_OAUTH_CLIENT_SECRET": "s"}, ["TENANT"]),
        ({"EMAIL_OAUTH_PROVIDER": "yahoo"}, ["PROVIDER"]),
        ({}, ["TOKEN_URL"]),
        ({"EMAIL_OAUTH_TOKEN_URL": "http://token.example/"}, ["TOKEN_URL"]),
        ({"EMAIL_OAUTH_TOKEN_URL": "https://token.example:x/"}, ["TOKEN_URL"]),
        ({"EMAIL_OAUTH_PROVIDER": "microsoft", "EMAIL_OAUTH_TENANT": "a/../b"}, ["TENANT"]),
        ({"EMAIL_OAUTH_PROVIDER": "microsoft", "EMAIL_OAUTH_GRANT": "password"}, ["GRANT"]),
        (
            {
                "EMAIL_OAUTH_PROVIDER": "google",
                "EMAIL_OAUTH_GRANT": "client_credentials",
                "EMAIL_OAUTH_CLIENT_SECRET": "s",
            },
            ["GRANT"],
        ),
    ],
)
def test_what_oauth_lacks_is_told_in_a_line_each(env: dict[str, str], names: list[str]) -> None:
    lines = faults(OAUTH, **env)
    assert [line.split(":")[0] for line in lines] == [f"EMAIL_OAUTH_{name}" for name in names]


@pytest.mark.parametrize("key", ["", "short-3f9c", "x" * 44, KEY + ",short-3f9c", KEY[:-2] + "=="])
def test_the_secret_key_must_be_one_and_is_never_shown(key: str) -> None:
    (line,) = faults(OAUTH, EMAIL_OAUTH_PROVIDER="microsoft", CLEO_SECRET_KEY=key)
    assert line.startswith("CLEO_SECRET_KEY: found ")
    assert "os.urandom(32)" in line, "with the command that makes one"
    assert not key or key not in line


def test_the_command_in_the_fault_makes_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = faults(OAUTH, EMAIL_OAUTH_PROVIDER="microsoft", CLEO_SECRET_KEY="")
    code = re.search(r"python3 -c '([^']+)'", line)
    assert code is not None
    exec(code[1])
    made = capsys.readouterr().out.strip()
    assert read(OAUTH, EMAIL_OAUTH_PROVIDER="microsoft", CLEO_SECRET_KEY=f"{made},{KEY}").secret_keys


def test_no_secret_of_oauth_is_shown() -> None:
    env = {
        "EMAIL_OAUTH_PROVIDER": "google",
        "EMAIL_OAUTH_CLIENT_SECRET": "client-s3cret-3f9c",
        "EMAIL_OAUTH_REFRESH_TOKEN": "r3fresh-token-3f9c",
    }
    settings = read(OAUTH, **env)
    shown = repr(settings) + repr(settings.oauth)
    for secret in ("client-s3cret-3f9c", "r3fresh-token-3f9c", KEY):
        assert secret not in shown


def test_the_table_of_the_documents_is_that_of_the_code() -> None:
    text = (ROOT / "docs" / "providers.md").read_text()
    rows = re.findall(r"^\| `([^`]+)` \| (\S+):(\d+) \| (\S+) \|", text, re.MULTILINE)
    assert {name: (smtp, int(port), imap) for name, smtp, port, imap in rows} == {
        preset.name: (preset.smtp_host, preset.smtp_port, preset.imap_host) for preset in presets().values()
    }

"""The environment, read once, with every fault told in one line and no secret shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from cleo_email.cli.messages import CLI
from cleo_email.errors import SettingsError
from cleo_email.mail.model import Address
from cleo_email.settings import Settings, read_settings
from cleo_email.settings.model import NO_NAMES
from cleo_email.store.messages import AGENT, MAILBOX
from cleo_email.web.auth import LOCAL

WHOLE = {
    "ENABLED_CLIENTS": "whatsapp, email",
    "EMAIL_SMTP_HOST": "smtp.example.com",
    "EMAIL_USER": "agent@example.com",
    "EMAIL_PASSWORD": "hunter2-pass-3f9c",
}


def read(**env: str) -> Settings:
    return read_settings({**WHOLE, **env}, dotenv=None)


def faults(env: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        read_settings(env, dotenv=None)
    return caught.value.faults


def test_defaults_are_those_of_the_contract() -> None:
    settings = read()
    assert settings.enabled
    assert (settings.smtp_port, settings.imap_port, settings.poll_interval) == (587, 993, 60)
    assert (settings.concurrency, settings.max_message_bytes) == (200, 26_214_400)
    assert (settings.max_replies_per_thread, settings.max_replies_per_sender) == (20, 60)
    assert (settings.max_age_days, settings.retention_days, settings.agent_timeout) == (7, 90, 300)
    assert settings.agent == "", "nobody: what is not chosen answers no customer"
    assert settings.imap is None
    assert settings.save_sent
    assert settings.idle
    assert not settings.reply_all
    assert settings.redis_url.get_secret_value() == "redis://localhost:6379/0"
    assert settings.from_address.addr == "agent@example.com"


def test_nothing_is_required_while_the_channel_is_off() -> None:
    assert not read_settings({}, dotenv=None).enabled
    assert not read_settings({"ENABLED_CLIENTS": "teams"}, dotenv=None).enabled


def test_every_missing_value_has_its_line() -> None:
    found = faults({"ENABLED_CLIENTS": "email"})
    assert [line.split(":")[0] for line in found] == ["EMAIL_SMTP_HOST", "EMAIL_USER", "EMAIL_PASSWORD"]


def test_an_empty_value_counts_as_missing() -> None:
    assert any(
        line.startswith("EMAIL_PASSWORD: found nothing") for line in faults({**WHOLE, "EMAIL_PASSWORD": " "})
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EMAIL_SMTP_PORT", "abc"),
        ("EMAIL_SMTP_PORT", "0"),
        ("EMAIL_IMAP_PORT", "70000"),
        ("EMAIL_POLL_INTERVAL_SECONDS", "0"),
        ("EMAIL_POLL_INTERVAL_SECONDS", "1.5"),
        ("EMAIL_CONCURRENCY", "-1"),
        ("EMAIL_MAX_MESSAGE_BYTES", "25MB"),
        ("EMAIL_ALLOWED_SENDERS", "anna@example.com, bob"),
        ("EMAIL_ALLOWED_SENDERS", "*@firma.de"),
        ("EMAIL_ALLOWED_SENDERS", "@*.firma.de"),
        ("EMAIL_ALLOWED_ROBOTS", "anna@example.com,*@firma.de"),
        ("EMAIL_SAVE_SENT", "maybe"),
        ("EMAIL_IDLE", "sometimes"),
        ("REDIS_URL", "http://localhost"),
        ("REDIS_URL", "redis://localhost/0?db=one"),
        ("REDIS_URL", "redis://localhost:port/0"),
        ("REDIS_URL", "redis://localhost/one"),
        ("CLEO_AGENT", "nobody"),
        ("CLEO_AGENT", "ftp://agent.example"),
        ("CLEO_AGENT", "http:agent.example"),
        ("CLEO_AGENT", "https://agent.example:port/"),
        ("CLEO_PUBLIC_URL", "https://cleo.example/?to=there"),
        ("CLEO_PUBLIC_URL", "http://cleo.example/mail"),
        ("CLEO_AGENT_TIMEOUT_SECONDS", "1e9"),
        ("EMAIL_FROM_ADDRESS", "nobody"),
        ("EMAIL_FROM_ADDRESS", "cleo@example.com, anna@example.com"),
        ("EMAIL_SMTP_HOST", "smtp://smtp.example.com"),
        ("EMAIL_SMTP_HOST", "smtp.example.com:587"),
        ("EMAIL_IMAP_HOST", "imap.example.com other.example.com"),
        ("EMAIL_TRUSTED_AUTHSERV_ID", "mx.example.com; dmarc=pass"),
        ("CLEO_AGENT_TIMEOUT_SECONDS", "soon"),
        ("CLEO_AGENT_DEADLINE_HOURS", "0"),
        ("CLEO_AGENT_DEADLINE_HOURS", "a day"),
        ("CLEO_AGENT_DEADLINE_HOURS", "10000"),
        ("EMAIL_ASK_ALLOWED", "boss@example.com, *@firma.de"),
        ("SSL_CERT_FILE", "/does/not/exist.pem"),
        ("CLEO_EVENTS_SECRET", "whsec_tooshort"),
        ("CLEO_EVENTS_SECRET", "c2VjcmV0LW9mLXRoZS1ldmVudHMtb2YtdGhlLXRlc3Q="),
    ],
)
def test_nonsense_names_the_variable_what_was_found_and_what_is_expected(name: str, value: str) -> None:
    (line,) = faults({**WHOLE, name: value})
    assert line.startswith(f"{name}: found ")
    assert ", expected " in line


@pytest.mark.parametrize("kind", ["SMTP", "IMAP"])
@pytest.mark.parametrize(
    ("value", "advice"),
    [
        ("mail.example.com:465", "set EMAIL_{0}_HOST=mail.example.com and EMAIL_{0}_PORT=465"),
        ("ssl://mail.example.com:993/", "set EMAIL_{0}_HOST=mail.example.com and EMAIL_{0}_PORT=993"),
        ("smtps://mail.example.com", "set EMAIL_{0}_HOST=mail.example.com"),
        ("[::1]:587", "set EMAIL_{0}_HOST=::1 and EMAIL_{0}_PORT=587"),
    ],
)
def test_a_port_behind_a_host_has_a_setting_of_its_own(kind: str, value: str, advice: str) -> None:
    (line,) = faults({**WHOLE, f"EMAIL_{kind}_HOST": value})
    assert line.endswith(f"; {advice.format(kind)}")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "mail_1.example.com", "münchen.example"])
def test_a_server_may_be_named_or_numbered(host: str) -> None:
    settings = read(EMAIL_SMTP_HOST=host, EMAIL_IMAP_HOST=host)
    assert (settings.smtp_host, settings.imap_host) == (host, host)


def test_a_star_among_addresses_is_told_of_with_the_right_form() -> None:
    (line,) = faults({**WHOLE, "EMAIL_ALLOWED_SENDERS": "*@firma.de"})
    assert "is @firma.de, without a *" in line


def test_umlauts_are_shown_and_control_characters_escaped() -> None:
    (line,) = faults({**WHOLE, "EMAIL_FROM_ADDRESS": "J\u00fcrgen M\u00fcller \x1b[1m\u202e"})
    assert "'J\u00fcrgen M\u00fcller \\x1b[1m\\u202e'" in line
    (line,) = faults({**WHOLE, "EMAIL_FROM_ADDRESS": "a@example.com, b@example.com"})
    assert line.startswith("EMAIL_FROM_ADDRESS")
    named = read_settings(
        {**WHOLE, "EMAIL_FROM_ADDRESS": "M\u00fcller, J\u00fcrgen <agent@example.com>"}, dotenv=None
    )
    assert named.from_address == Address("agent@example.com", "M\u00fcller, J\u00fcrgen")


def test_all_faults_are_told_at_once() -> None:
    wrong = {"EMAIL_SMTP_PORT": "x", "EMAIL_IMAP_PORT": "y", "CLEO_AGENT": "z"}
    found = faults({"ENABLED_CLIENTS": "email", **wrong})
    assert {line.split(":")[0] for line in found} >= {
        "CLEO_AGENT", "EMAIL_SMTP_PORT", "EMAIL_IMAP_PORT", "EMAIL_SMTP_HOST", "EMAIL_USER", "EMAIL_PASSWORD",
    }  # fmt: skip


def test_no_secret_is_shown_in_a_fault_or_in_a_repr() -> None:
    settings = read(
        REDIS_URL="redis://:redis-s3cret-3f9c@localhost/0",
        CLEO_API_TOKEN="api-t0ken-3f9c",
        EMAIL_WEBHOOK_SECRET="a,webhook-s3cret-3f9c",
    )
    shown = repr(settings) + repr(settings.smtp) + repr(settings.imap) + repr(settings.login)
    shown += " ".join(
        faults({**WHOLE, "REDIS_URL": "postgres://u:redis-s3cret-3f9c@h", "EMAIL_SMTP_PORT": "hunter"})
    )
    for secret in (WHOLE["EMAIL_PASSWORD"], "s3cret", "api-t0ken-3f9c"):
        assert secret not in shown


def test_a_login_that_is_no_address_needs_a_from_address() -> None:
    found = faults({**WHOLE, "EMAIL_USER": "agent"})
    assert any(line.startswith("EMAIL_FROM_ADDRESS") for line in found)
    assert any(line.startswith("EMAIL_USER: found 'agent', expected an address") for line in found)
    settings = read(EMAIL_USER="agent", EMAIL_FROM_ADDRESS="Cleo Öst <cleo@example.com>")
    assert (settings.from_address.name, settings.from_address.addr) == ("Cleo Öst", "cleo@example.com")
    assert settings.own_addresses == {"cleo@example.com"}


def test_the_environment_wins_over_the_dotenv_file(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text('EMAIL_SMTP_HOST=from-file\nEMAIL_PASSWORD="with space # and hash"\n')
    env = {k: v for k, v in WHOLE.items() if k != "EMAIL_PASSWORD"}
    settings = read_settings(env, dotenv=file)
    assert settings.smtp_host == "smtp.example.com"
    assert settings.password.get_secret_value() == "with space # and hash"


def test_secrets_and_lists_may_be_several() -> None:
    settings = read(EMAIL_WEBHOOK_SECRET="old, new", EMAIL_ALLOWED_SENDERS="Anna@Example.com,@example.org")
    tokens = read(CLEO_API_TOKEN=" old,new ,").api_tokens
    assert [token.get_secret_value() for token in tokens] == ["old", "new"]
    assert [secret.get_secret_value() for secret in settings.webhook_secrets] == ["old", "new"]
    assert settings.allowed_senders == ("anna@example.com", "@example.org")


@pytest.mark.parametrize(
    "value",
    [
        "anna:",
        "anna:s3cret,ben:",
        ":s3cret",
        "Agent:s3cret",
        *(f"{name}:s3cret" for name in sorted(NO_NAMES)),
    ],
)
def test_a_token_without_a_secret_or_with_the_name_of_somebody_else_is_refused(value: str) -> None:
    (line,) = faults({**WHOLE, "CLEO_API_TOKEN": value})
    assert line.startswith("CLEO_API_TOKEN: found a value that is not shown, expected bearer tokens")
    assert "s3cret" not in line


def test_the_public_url_may_have_a_path() -> None:
    given = {**WHOLE, "CLEO_PUBLIC_URL": "https://shop.example/mail/"}
    assert read_settings(given, dotenv=None).public_url == "https://shop.example/mail"


def test_no_token_has_a_name_by_which_records_mean_somebody_else() -> None:
    assert {AGENT, CLI, LOCAL, MAILBOX} == NO_NAMES


@pytest.mark.parametrize("name", ["CLEO_API_TOKEN", "EMAIL_WEBHOOK_SECRET", "EMAIL_MAILGUN_SIGNING_KEY"])
def test_a_list_of_no_secret_does_not_switch_the_check_off(name: str) -> None:
    (line,) = faults({**WHOLE, name: " , ,"})
    assert line.startswith(f"{name}: found a value that is not shown, expected ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EMAIL_POSTMARK_AUTH", "s3cret"),
        ("EMAIL_POSTMARK_AUTH", "user:s3cret,other"),
        ("EMAIL_CLOUDMAILIN_AUTH", ":s3cret"),
        ("EMAIL_SENDGRID_PUBLIC_KEY", "s3cret"),
        ("EMAIL_SENDGRID_PUBLIC_KEY", "AAAA"),
        ("EMAIL_SES_TOPIC_ARN", "arn:aws:s3:::bucket"),
        ("EMAIL_SES_TOPIC_ARN", "https://sns.eu-central-1.amazonaws.com/"),
        ("EMAIL_RESEND_SIGNING_SECRET", "whsec_s3cret!"),
        ("EMAIL_RESEND_SIGNING_SECRET", "whsec_"),
    ],
)
def test_a_providers_secret_that_cannot_be_one_stops_the_start_and_is_not_shown(
    name: str, value: str
) -> None:
    (line,) = faults({**WHOLE, name: value})
    assert line.startswith(f"{name}: found ")
    assert ", expected " in line
    if "KEY" not in name:  # that one is public
        assert "s3cret" not in line


def test_secrets_of_providers_are_not_in_a_repr() -> None:
    settings = read(
        EMAIL_MAILGUN_SIGNING_KEY="s3cret-m",
        EMAIL_POSTMARK_AUTH="u:s3cret-p,v:s3cret-q",
        EMAIL_RESEND_SIGNING_SECRET="whsec_czNjcmV0",
        EMAIL_RESEND_API_KEY="s3cret-r",
        EMAIL_BREVO_AUTH="s3cret-b",
        EMAIL_BREVO_API_KEY="s3cret-k",
        EMAIL_CLOUDMAILIN_AUTH="u:s3cret-c",
    )
    assert "s3cret" not in repr(settings)
    assert "czNjcmV0" not in repr(settings)
    assert [pair.get_secret_value() for pair in settings.postmark_auth] == ["u:s3cret-p", "v:s3cret-q"]


@pytest.mark.parametrize("address", ["cleo@example.com", "Cleo <Cleo@Example.com>", "cleo+boss@example.com"])
def test_a_hand_over_to_the_agents_own_mailbox_is_a_fault(address: str) -> None:
    with pytest.raises(SettingsError, match=r"EMAIL_HANDOFF_TO: found .*this mailbox"):
        read(EMAIL_FROM_ADDRESS="cleo@example.com", EMAIL_HANDOFF_TO=f"boss@example.com, {address}")


EVENTS_SECRET = "whsec_c2VjcmV0LW9mLXRoZS1ldmVudHMtb2YtdGhlLXRlc3Q="


def test_events_need_a_secret_and_a_url_that_is_one() -> None:
    (line,) = faults({**WHOLE, "CLEO_EVENTS_URL": "https://example.com"})
    assert line.startswith("CLEO_EVENTS_SECRET: found nothing, expected whsec_")
    assert "python3 -c" in line
    url = "ftp://a:password-of-the-test@example.com/key-of-the-test"
    (line,) = faults({**WHOLE, "CLEO_EVENTS_URL": url, "CLEO_EVENTS_SECRET": EVENTS_SECRET})
    assert line.startswith("CLEO_EVENTS_URL: found ftp://example.com, expected http://")


def test_events_may_have_several_secrets() -> None:
    env = {
        "CLEO_EVENTS_URL": "https://example.com/path-of-the-test",
        "CLEO_EVENTS_SECRET": f"{EVENTS_SECRET},{EVENTS_SECRET}",
    }
    found = read(**env)
    assert [secret.get_secret_value() for secret in found.events_secrets] == [EVENTS_SECRET] * 2
    assert "path-of-the-test" not in repr(found)


def test_how_long_an_agent_may_take_and_whom_it_may_ask() -> None:
    assert (read().agent_deadline_hours, read().ask_allowed) == (24.0, ())
    settings = read(CLEO_AGENT_DEADLINE_HOURS="0.5", EMAIL_ASK_ALLOWED="boss@example.com, @Firma.de")
    assert settings.agent_deadline_hours == 0.5
    assert settings.ask_allowed == ("boss@example.com", "@firma.de")

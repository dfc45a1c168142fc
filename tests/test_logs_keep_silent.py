"""A whole run with every secret in use, right and wrong: none of them, and no mail, reaches a log."""

from __future__ import annotations

import base64
import json
import logging
from pathlib import Path

import pytest

from cleo_email.runtime import WithoutSecrets
from tests.support.agent_server import AgentServer
from tests.support.channel import Rig
from tests.support.mails import PASSWORD, mail
from tests.webhooks import samples

API_TOKEN = "api-token-Zx81"
AGENT_TOKEN = "agent-token-Qy72"
BODY = "Kontonummer-4711-geheim"
ANSWER = "final: "
WRONG = "guessed-secret-Vb33"


@pytest.mark.servers("dovecot")
def test_no_secret_and_no_mail_is_logged(tmp_path: Path, redis_url: str) -> None:
    env = {**samples.secrets_env(), "CLEO_API_TOKEN": API_TOKEN, "CLEO_AGENT_TOKEN": AGENT_TOKEN}
    del env["EMAIL_SENDGRID_PUBLIC_KEY"]  # then its secret stands in the URL
    with AgentServer() as agent, Rig(tmp_path, redis_url, env={**env, "CLEO_AGENT": agent.url}) as rig:
        rig.start_web("--access-logfile", "-", "--capture-output")
        rig.start_worker()
        rig.deliver(mail(1, text=f"by IMAP {BODY}"))
        requests = [
            samples.mailgun(samples.mail(2, text=BODY)),
            samples.postmark(samples.mail(3, text=BODY)),
            samples.sendgrid_by_url(samples.mail(4, text=BODY)),
            samples.cloudmailin(samples.mail(5, text=BODY)),
            samples.brevo(samples.brevo_item(6, RawTextBody=BODY, RawHtmlBody="")),
            samples.signed(samples.mail(7, text=BODY), path="/email/incoming/raw"),
        ]
        for request in requests:
            status, answer, _ = rig.call("POST", request.path, request.body, dict(request.headers))
            assert status in (200, 202), (request.path, answer)
        rig.smtp.wait_for(lambda server: len(server.mails) == 7, 30)
        provoke_refusals(rig)
        bearer = {"Authorization": f"Bearer {API_TOKEN}"}
        assert rig.call("GET", "/email/messages", headers=bearer)[0] == 200
        done = rig.run("check")
        assert PASSWORD not in done.stdout + done.stderr
        log = rig.log.read_text("utf-8", "replace")
    assert "accepted by mailgun" in log
    assert "replied" in log
    assert "/email/incoming/sendgrid?secret=…" in log, "the access log is on, and keeps the URL"
    assert "refused a request" in log
    for secret in every_secret(env):
        assert secret not in log, secret
    for text in (BODY, ANSWER, "Question 2\r\n", base64.b64encode(BODY.encode()).decode()):
        assert text not in log, text


def provoke_refusals(rig: Rig) -> None:
    """Wrong secrets are secrets too: of another system, or of yesterday, or with one letter missing."""
    for headers in (
        {"X-Webhook-Secret": WRONG},
        {"Authorization": f"Bearer {WRONG}"},
        {"Authorization": "Basic " + base64.b64encode(f"postmark:{WRONG}".encode()).decode()},
        {"X-Cleo-Signature": f"t=1,v1={WRONG}"},
    ):
        for path in ("/email/incoming", "/email/incoming/postmark", "/email/incoming/ses"):
            body = json.dumps({"TopicArn": WRONG, "Type": "Notification", "Message": BODY}).encode()
            status, _, _ = rig.call("POST", path, body, {"Content-Type": "application/json", **headers})
            assert status in (401, 403, 429)
    request = samples.sendgrid_by_url(samples.mail(8, text=BODY), WRONG)
    assert rig.call("POST", request.path, request.body, dict(request.headers))[0] in (403, 429)
    broken = samples.Request("/email/incoming/postmark", BODY.encode(), samples.basic(samples.POSTMARK))
    assert rig.call("POST", broken.path, broken.body, dict(broken.headers))[0] == 403


def every_secret(env: dict[str, str]) -> list[str]:
    values = [PASSWORD, WRONG, API_TOKEN, AGENT_TOKEN]
    values += [
        part for name, value in env.items() if name != "EMAIL_SES_TOPIC_ARN" for part in value.split(",")
    ]
    values += [part.partition(":")[2] for part in values if ":" in part]
    values += [base64.b64encode(part.encode()).decode() for part in values]
    return [value for value in values if len(value) > 3]


def test_a_secret_in_a_url_is_cut_out_wherever_it_is_logged() -> None:
    logger = logging.Logger("gunicorn.access")
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger.addHandler(Keep())
    logger.addFilter(WithoutSecrets())
    logger.info(
        '%(h)s "%(r)s" %(f)s', {"h": "::1", "r": "POST /x?a=1&secret=s3cr&b=2 HTTP/1.1", "f": "?secret=s3cr"}
    )
    logger.warning("plain %s", "text")
    logger.error("100% of ?secret=s3cr")
    assert lines == ['::1 "POST /x?a=1&secret=…&b=2 HTTP/1.1" ?secret=…', "plain text", "100% of ?secret=…"]


def test_a_line_whose_format_does_not_fit_raises_nothing() -> None:
    record = logging.LogRecord("other", logging.INFO, __file__, 1, "%d mails", ("many",), None)
    assert WithoutSecrets().filter(record)

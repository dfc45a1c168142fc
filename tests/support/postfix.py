"""A private Postfix for tests, in front of a private Dovecot. As root, without systemd, on loopback only.

    with PostfixAndDovecot(users={"ann@example.com": "secret"}) as servers:
        SmtpAccount("localhost", servers.smtp_port, Login("ann@example.com", "secret"))

STARTTLS on ``smtp_port`` and implicit TLS on ``smtps_port``, AUTH (checked by Dovecot) before relaying, mail
goes to Dovecot by LMTP. Mail for people elsewhere is taken from who has logged in, goes to Dovecot as well,
and bounces, since Dovecot does not know them: none leaves this machine, and tests get the bounces of a real
Postfix. It is one child process, ended by its own process id; Postfix's master ends its helpers.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import smtplib
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from cleo_email.accounts import Login, SmtpAccount
from tests.support import dovecot
from tests.support.ports import free_ports

HOST = "127.0.0.1"
_SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
_DAEMONS = "/usr/lib/postfix/sbin"  # Debian
_AUTH = """
service auth {
  unix_listener postfix-auth {
    mode = 0666
  }
}
"""


def missing() -> str:
    """Why these servers cannot be started here, or an empty string."""
    if os.getuid() != 0:
        return "Postfix needs root"
    if shutil.which("postfix", path=_SEARCH_PATH) is None:
        return "no postfix found: apt-get install postfix"
    return dovecot.missing()


class PostfixAndDovecot:
    """``dovecot`` is where the mail arrives; its certificate authority is Postfix's too."""

    def __init__(self, users: Mapping[str, str], *, extra: str = "") -> None:
        self._users = dict(users)
        self._extra = extra
        self._process: subprocess.Popen[bytes] | None = None
        self.home = Path(tempfile.mkdtemp(prefix="postfix-"))
        self.home.chmod(0o755)
        self.dovecot = dovecot.Dovecot(users, extra=_AUTH)
        self.smtp_port, self.smtps_port = free_ports(2)

    def __enter__(self) -> Self:
        try:
            self.dovecot.__enter__()
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.dovecot.__exit__(kind, value, trace)
        shutil.rmtree(self.home, ignore_errors=True)

    def start(self) -> None:
        """Start Postfix, or start it again on the same ports with the same queue; returns when it serves."""
        self._configure()
        binary = shutil.which("postfix", path=_SEARCH_PATH)
        assert binary is not None, missing()
        config = str(self.home / "config")
        with (self.home / "output").open("ab") as output:
            # Makes the queue's folders. Then master itself: "postfix start-fg" leaves a shell between.
            subprocess.run([binary, "-c", config, "check"], stdout=output, stderr=output, check=True)
            self._process = subprocess.Popen(
                [f"{_DAEMONS}/master", "-c", config, "-d"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        deadline = time.monotonic() + 30
        while not self._greets():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"postfix did not start:\n{self.log()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End Postfix with SIGTERM and wait; what is in its queue stays there."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(15)

    def account(self, user: str, *, port: int | None = None) -> SmtpAccount:
        """The account at the STARTTLS port, or another one."""
        return SmtpAccount("localhost", port or self.smtp_port, Login(user, self._users[user]))

    def log(self) -> str:
        texts = []
        for name in ("output", "log"):
            with contextlib.suppress(FileNotFoundError):
                texts.append((self.home / name).read_text(errors="replace"))
        return "".join(texts)

    def _greets(self) -> bool:
        try:
            with smtplib.SMTP(HOST, self.smtp_port, timeout=5) as client:
                return client.noop()[0] == 250
        except (OSError, smtplib.SMTPException):
            return False

    def _configure(self) -> None:
        config, queue, data = (self.home / name for name in ("config", "queue", "data"))
        for folder in (config, queue, data):
            folder.mkdir(exist_ok=True)
        os.chown(data, pwd.getpwnam("postfix").pw_uid, -1)
        domains = sorted({user.rpartition("@")[2] for user in self._users})
        values = {
            "home": self.home,
            "host": HOST,
            "daemons": _DAEMONS,
            "smtp": self.smtp_port,
            "smtps": self.smtps_port,
            "lmtp": self.dovecot.lmtp_port,
            "cert": self.dovecot.home / "cert.pem",
            "key": self.dovecot.home / "key.pem",
            "auth": self.dovecot.home / "run" / "postfix-auth",
            "domains": " ".join(domains),
            "users": "".join(f"{user} yes\n" for user in self._users),
        }
        (config / "users").write_text(str(values["users"]))
        (config / "main.cf").write_text(_MAIN.format(**values) + self._extra)
        (config / "master.cf").write_text(_MASTER.format(**values))


_MAIN = """\
compatibility_level = 3.6
queue_directory = {home}/queue
data_directory = {home}/data
command_directory = /usr/sbin
daemon_directory = {daemons}
maillog_file = {home}/log
maillog_file_prefixes = {home}
mail_owner = postfix
setgid_group = postdrop
myhostname = localhost
mydestination =
mynetworks =
inet_interfaces = {host}
inet_protocols = ipv4
biff = no
message_size_limit = 52428800
mailbox_size_limit = 0
recipient_delimiter = +
alias_maps =
local_recipient_maps =
smtpd_tls_security_level = may
smtpd_tls_auth_only = yes
smtpd_tls_cert_file = {cert}
smtpd_tls_key_file = {key}
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {auth}
smtpd_recipient_restrictions =
  check_recipient_access inline:{{ {{ later@example.org = 450 4.2.0 try later }} }}
smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination
virtual_mailbox_domains = {domains}
virtual_mailbox_maps = texthash:{home}/config/users
virtual_transport = lmtp:inet:{host}:{lmtp}
default_transport = lmtp:inet:{host}:{lmtp}
relay_transport = lmtp:inet:{host}:{lmtp}
"""

_MASTER = """\
{host}:{smtp} inet n - n - - smtpd
{host}:{smtps} inet n - n - - smtpd
  -o smtpd_tls_wrappermode=yes
cleanup   unix n - n - 0 cleanup
qmgr      unix n - n 300 1 qmgr
tlsmgr    unix - - n 1000? 1 tlsmgr
rewrite   unix - - n - - trivial-rewrite
bounce    unix - - n - 0 bounce
defer     unix - - n - 0 bounce
trace     unix - - n - 0 bounce
verify    unix - - n - 1 verify
flush     unix n - n 1000? 0 flush
proxymap  unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
error     unix - - n - - error
retry     unix - - n - - error
discard   unix - - n - - discard
lmtp      unix - - n - - lmtp
anvil     unix - - n - 1 anvil
scache    unix - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
"""

"""A private Dovecot for tests: own configuration and users in a temporary directory, on loopback only.

    with Dovecot(users={"ann@example.com": "secret"}) as server:
        server.deliver("ann@example.com", b"Subject: hello\\r\\n\\r\\nhello\\r\\n")
        Mailbox(server.account("ann@example.com"), ssl_context=server.ssl_context())

Works as root (mail then belongs to ``nobody``) and as anybody else. It is one child process with a process
group of its own, and ends by that group.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme

from cleo_email.accounts import ImapAccount, Login
from tests.support.ports import free_ports

HOST = "127.0.0.1"
SENT_MARKED = "mailbox Sent {\n  special_use = \\Sent\n}"
_SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
_PROTOCOLS = "/usr/lib/dovecot"  # Debian; other systems keep the protocol helpers in libexec


def missing() -> str:
    """Why no Dovecot can be started here, or an empty string."""
    binary = shutil.which("dovecot", path=_SEARCH_PATH)
    if binary is None:
        return "no dovecot found: apt-get install dovecot-imapd dovecot-lmtpd"
    for helper, package in (("imap", "dovecot-imapd"), ("lmtp", "dovecot-lmtpd")):
        places = (Path(_PROTOCOLS), Path("/usr/libexec/dovecot"), Path("/usr/local/libexec/dovecot"))
        if not any((place / helper).exists() for place in places):
            return f"dovecot has no {helper}: apt-get install {package}"
    version = subprocess.run(
        [binary, "--version"], capture_output=True, text=True, check=False
    ).stdout.strip()
    if not version.startswith("2.3."):
        return f"dovecot {version or '(unknown version)'}: these tests know the configuration of 2.3 only"
    return ""


class Dovecot:
    """``imap_port`` speaks STARTTLS, ``imaps_port`` TLS.

    ``extra`` is appended to the configuration; ``inbox`` is what the inbox's namespace says (a folder marked
    for sent mail unless told otherwise); ``mechanisms`` are the offered kinds of login.
    """

    def __init__(
        self,
        users: Mapping[str, str] | None = None,
        *,
        extra: str = "",
        inbox: str = SENT_MARKED,
        mechanisms: str = "plain login",
    ) -> None:
        self.extra = extra
        self._inbox = inbox
        self._mechanisms = mechanisms
        self._users = dict(users or {})
        self._process: subprocess.Popen[bytes] | None = None
        self.home = Path(tempfile.mkdtemp(prefix="dovecot-"))
        self.home.chmod(0o755)
        self.imap_port, self.imaps_port, self.lmtp_port = free_ports(3)
        self.ca = trustme.CA()
        self.ca_file = self.home / "ca.pem"
        self.ca.cert_pem.write_to_path(str(self.ca_file))
        certificate = self.ca.issue_cert("localhost", HOST)
        certificate.private_key_pem.write_to_path(str(self.home / "key.pem"))
        for number, blob in enumerate(certificate.cert_chain_pems):
            blob.write_to_path(str(self.home / "cert.pem"), append=number > 0)

    # --- life -------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def start(self) -> None:
        """Start, or start again on the same ports with the same mail; returns when it serves."""
        self._write_users()
        config = self.home / "dovecot.conf"
        config.write_text(self._config() + self.extra)
        binary = shutil.which("dovecot", path=_SEARCH_PATH)
        assert binary is not None, missing()
        self._process = subprocess.Popen(
            [binary, "-F", "-c", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self.home / "stderr").open("wb"),
            start_new_session=True,  # a process group of its own, for stop
        )
        tls = () if "ssl = no" in self.extra else (self.imaps_port,)
        for port in (self.imap_port, self.lmtp_port, *tls):
            self._await(port)

    def stop(self) -> None:
        """End it and wait until every process of it is gone; clients lose their connections."""
        process, self._process = self._process, None
        if process is None:
            return
        # The master alone would leave the helpers of open connections behind, serving.
        _signal_group(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + 5
        while process.poll() is None or _signal_group(process.pid, 0):
            if time.monotonic() > deadline:
                _signal_group(process.pid, signal.SIGKILL)
                process.wait(10)
                return
            time.sleep(0.01)

    def _await(self, port: int) -> None:
        deadline = time.monotonic() + 15
        while True:
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"dovecot did not start:\n{self.log()}")
            try:
                socket.create_connection((HOST, port), 1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return

    def log(self) -> str:
        """What Dovecot has to say for itself."""
        texts = []
        for name in ("stderr", "log"):
            with contextlib.suppress(FileNotFoundError):
                texts.append((self.home / name).read_text(errors="replace"))
        return "".join(texts)

    # --- use --------------------------------------------------------------------------------------------

    def account(self, user: str, *, password: str | None = None, port: int | None = None) -> ImapAccount:
        """The account at the TLS port, or another one."""
        secret = self._users[user] if password is None else password
        return ImapAccount("localhost", port or self.imaps_port, Login(user, secret))

    def ssl_context(self) -> ssl.SSLContext:
        """A context that trusts this server and nobody else."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(str(self.ca_file))
        return context

    def deliver(self, recipient: str, *sources: bytes, sender: str = "sender@example.org") -> None:
        """Bring mail in by LMTP, byte for byte apart from dot-stuffing and line ends."""
        with smtplib.LMTP(HOST, self.lmtp_port, timeout=30) as lmtp:
            for source in sources:
                lmtp.sendmail(sender, [recipient], source)

    def fill(self, user: str, *sources: bytes) -> None:
        """Put mail into the inbox as files: thousands a second, and bytes that LMTP would not let through."""
        folder = self.maildir(user)
        parents = (folder.parent, folder, folder / "cur", folder / "new", folder / "tmp")
        owner = (self.home / "mail").stat()
        for place in parents:
            place.mkdir(exist_ok=True)
            os.chown(place, owner.st_uid, owner.st_gid)
        start = len(list((folder / "new").iterdir()))
        for number, source in enumerate(sources, start):
            path = folder / "new" / f"1700000000.M{number:08d}.test"
            path.write_bytes(source)
            os.chown(path, owner.st_uid, owner.st_gid)

    def maildir(self, user: str) -> Path:
        return self.home / "mail" / user / "Maildir"

    # --- configuration ----------------------------------------------------------------------------------

    def _write_users(self) -> None:
        lines = [f"{user}:{{PLAIN}}{password}::::::" for user, password in self._users.items()]
        (self.home / "users").write_text("".join(line + "\n" for line in lines), encoding="utf-8")

    def _config(self) -> str:
        home = self.home
        root = os.getuid() == 0
        me = pwd.getpwuid(os.getuid()).pw_name
        owner = pwd.getpwnam("nobody") if root else pwd.getpwuid(os.getuid())
        mail = home / "mail"
        mail.mkdir(exist_ok=True)
        if root:
            os.chown(mail, owner.pw_uid, owner.pw_gid)
        # Without root there is no other user to become and no chroot to go into.
        rootless = "" if root else _rootless(me, os.getgid())
        return _TEMPLATE.format(
            home=home,
            host=HOST,
            imap=self.imap_port,
            imaps=self.imaps_port,
            lmtp=self.lmtp_port,
            uid=owner.pw_uid,
            gid=owner.pw_gid,
            rootless=rootless,
            inbox=self._inbox,
            mechanisms=self._mechanisms,
        )


def _rootless(user: str, gid: int) -> str:
    import grp

    services = ("anvil", "imap-login", "stats", "auth", "ipc", "dict", "lmtp")
    return "\n".join(
        [
            f"default_internal_user = {user}",
            f"default_internal_group = {grp.getgrgid(gid).gr_name}",
            f"default_login_user = {user}",
            *(f"service {service} {{\n  chroot =\n  user = {user}\n}}" for service in services),
        ]
    )


def _signal_group(leader: int, number: int) -> bool:
    """Signal the process group; False if nobody is left in it."""
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        return False
    return True


_TEMPLATE = """\
protocols = imap lmtp
listen = {host}
base_dir = {home}/run
state_dir = {home}/state
log_path = {home}/log
instance_name = {home}
default_process_limit = 200
default_client_limit = 1000
{rootless}
ssl = yes
ssl_cert = <{home}/cert.pem
ssl_key = <{home}/key.pem
auth_mechanisms = {mechanisms}
auth_failure_delay = 0
passdb {{
  driver = passwd-file
  args = {home}/users
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={home}/mail/%u
}}
mail_location = maildir:~/Maildir
first_valid_uid = 1
mail_max_userip_connections = 100
mail_fsync = never
namespace inbox {{
  inbox = yes
  {inbox}
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    port = {lmtp}
  }}
}}
protocol lmtp {{
  auth_username_format = %u
}}
"""

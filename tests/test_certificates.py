"""A certificate that is not trusted is told as what it is, with what to do about it."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cleo_email.certificates import certificate_advice
from cleo_email.embedded.mailserver import AGENT, Certificates
from cleo_email.errors import MailboxError, SubmissionError
from cleo_email.imap.mailbox import Mailbox
from cleo_email.smtp.pool import Submitter
from tests.support.mail_server import FaithfulMailServer

RULES = "RFC 5280"
PRIVATE = "SSL_CERT_FILE or SSL_CERT_DIR"
USAGE = x509.KeyUsage(
    digital_signature=True,
    key_cert_sign=True,
    crl_sign=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


class Chain:
    """An authority and a server's certificate in ``folder``, each bent by one option."""

    def __init__(
        self,
        folder: Path,
        *,
        authority_key_id: bool = True,
        key_usage: bool = True,
        critical: bool = True,
        name: str = "127.0.0.1",
        days: int = 30,
    ) -> None:
        ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        issuer = _name("A private authority")
        ca = self._builder("A private authority", issuer, ca_key, days=30)
        ca = ca.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=critical)
        ca = ca.add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        if key_usage:
            ca = ca.add_extension(USAGE, critical=True)
        leaf = self._builder("mail", issuer, key, days=days)
        alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(name))])
        leaf = leaf.add_extension(alternative, critical=False)
        if authority_key_id:
            known = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
            leaf = leaf.add_extension(known, critical=False)
        self.files = Certificates(folder / "ca.pem", folder / "server.pem", folder / "server.key")
        self.files.ca_file.write_bytes(ca.sign(ca_key, hashes.SHA256()).public_bytes(Encoding.PEM))
        self.files.cert_file.write_bytes(leaf.sign(ca_key, hashes.SHA256()).public_bytes(Encoding.PEM))
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.files.key_file.write_bytes(private)

    @staticmethod
    def _builder(
        subject: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, days: int
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(_name(subject))
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=60))
            .not_valid_after(now + timedelta(days=days))
        )

    def client_context(self) -> ssl.SSLContext:
        """As Python 3.13 makes it by default."""
        context = self.files.client_context()
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def fault_of(chain: Chain, context: ssl.SSLContext) -> str:
    """Return OpenSSL's words for what a client finds wrong."""
    server = chain.files.server_context()
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = context.wrap_bio(back, there, server_hostname="127.0.0.1")
    theirs = server.wrap_bio(there, back, server_side=True)
    with pytest.raises(ssl.SSLWantReadError):
        ours.do_handshake()
    with pytest.raises(ssl.SSLWantReadError):
        theirs.do_handshake()
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        ours.do_handshake()
    return str(caught.value.verify_message)


@pytest.mark.parametrize(
    ("bent", "advice"),
    [
        ({"authority_key_id": False}, RULES),
        ({"key_usage": False}, RULES),
        ({"critical": False}, RULES),
        ({"days": -1}, "renew it"),
        ({"name": "127.0.0.2"}, "let EMAIL_IMAP_HOST have a name"),
    ],
)
def test_what_is_wrong_with_a_certificate_of_a_trusted_authority_is_no_missing_file(
    tmp_path: Path, bent: dict[str, bool | int | str], advice: str
) -> None:
    chain = Chain(tmp_path, **bent)  # type: ignore[arg-type]
    said = certificate_advice(fault_of(chain, chain.client_context()), "EMAIL_IMAP_HOST")
    assert advice in said
    assert PRIVATE not in said


def test_an_unknown_authority_is_told_with_the_file_that_is_in_force(tmp_path: Path) -> None:
    fault = fault_of(Chain(tmp_path), ssl.create_default_context())
    said = certificate_advice(fault, "EMAIL_IMAP_HOST", {"SSL_CERT_FILE": "/etc/own.pem"})
    assert said.endswith(f"let {PRIVATE} name it; in force: SSL_CERT_FILE=/etc/own.pem")
    assert certificate_advice(fault, environ={}).endswith("the system's authorities are trusted")


@pytest.mark.parametrize(
    "fault",
    [
        "self signed certificate in certificate chain",
        "unable to get issuer certificate",
        "unable to verify the first certificate",
    ],
)
def test_older_words_for_an_unknown_authority(fault: str) -> None:
    assert PRIVATE in certificate_advice(fault)


@pytest.mark.parametrize(
    ("fault", "advice"),
    [
        (
            "no alternative certificate subject name matches target host name 'a.test'",
            "let the URL have a name",
        ),
        (
            "certificate subject name 'b.test' does not match target host name 'a.test'",
            "let the URL have a name",
        ),
        ("Hostname mismatch, certificate is not valid for 'a.test'.", "let the URL have a name"),
        ("certificate has expired", "renew it"),
        ("certificate revoked", "renew it"),
        ("CA cert does not include key usage extension", RULES),
        ("authority and subject key identifier mismatch", RULES),
        ("unsupported certificate purpose", RULES),
    ],
)
def test_other_words_of_openssl_and_libcurl(fault: str, advice: str) -> None:
    said = certificate_advice(fault)
    assert advice in said
    assert PRIVATE not in said


def test_imap_and_smtp_tell_a_strict_refusal_as_what_it_is(tmp_path: Path) -> None:
    chain = Chain(tmp_path, authority_key_id=False)
    context = chain.client_context()
    with FaithfulMailServer(tmp_path, certificates=chain.files) as server:
        mailbox = Mailbox(server.imap_account(AGENT), ssl_context=context)
        submitter = Submitter(server.smtp_account(AGENT), context=context)
        for look, kind in ((mailbox.open, MailboxError), (submitter.check, SubmissionError)):
            with pytest.raises(kind, match="Missing Authority Key Identifier.*" + RULES) as caught:
                look()
            assert PRIVATE not in str(caught.value)

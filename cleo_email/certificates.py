"""Words for a certificate that is not trusted, the same for IMAP, SMTP and HTTP."""

import os
import re
from collections.abc import Mapping

VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")

# OpenSSL's words (X509_verify_cert_error_string), and libcurl's for a host.
_UNKNOWN_AUTHORITY = re.compile(r"self[- ]signed|unable to (get|verify)|not trusted|rejected", re.IGNORECASE)
_OTHER_NAME = re.compile(
    r"not valid for|no alternative certificate|not match|(name|address) mismatch", re.IGNORECASE
)
_OUT_OF_TIME = re.compile(r"expired|not yet valid|revoked", re.IGNORECASE)


def certificate_advice(fault: str, host_setting: str = "", environ: Mapping[str, str] = os.environ) -> str:
    """Return what to do about a server's certificate, by OpenSSL's or libcurl's words for the fault.

    ``host_setting`` is the variable that names the server. SSL_CERT_FILE mends an unknown authority alone:
    the strict checks of Python 3.13 (RFC 5280) refuse certificates of one that is trusted, too.
    """
    if _OUT_OF_TIME.search(fault):
        return "renew it at the server, or set the clock of this machine"
    if _OTHER_NAME.search(fault):
        return f"let {host_setting or 'the URL'} have a name that the certificate holds"
    if _UNKNOWN_AUTHORITY.search(fault):
        return f"for a private CA let SSL_CERT_FILE or SSL_CERT_DIR name it; in force: {in_force(environ)}"
    return (
        "it, or that of its authority, breaks the rules of RFC 5280, which Python checks strictly from 3.13 "
        "on: have it issued anew; another SSL_CERT_FILE does not mend that"
    )


def in_force(environ: Mapping[str, str]) -> str:
    """Return the variables that decide who is trusted, with their values."""
    named = [f"{name}={environ[name]}" for name in VARIABLES if environ.get(name)]
    return ", ".join(named) or "neither, the system's authorities are trusted"

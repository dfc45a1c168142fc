"""Remarks for the record on parts that hold something which this package does not open."""

from __future__ import annotations

from typing import Final

from cleo_email.mail.mime import Part

_TNEF: Final = frozenset({"application/ms-tnef", "application/vnd.ms-tnef"})
_SMIME: Final = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})


def signature_remark(part: Part) -> str:
    """Say by what a multipart/signed (RFC 1847) is signed."""
    pgp = "pgp" in part.type.parameters.get("protocol", "").lower()
    return "signed with PGP, signature not checked" if pgp else "signed with S/MIME, signature not checked"


def encryption_remark(part: Part) -> str:
    """Say by what a multipart/encrypted (RFC 1847) is encrypted."""
    pgp = "pgp" in part.type.parameters.get("protocol", "pgp").lower()
    return "PGP: encrypted mail not read" if pgp else "encrypted mail not read"


def content_remark(part: Part, filename: str) -> str:
    """Name the parts that hold something to read which this package does not open."""
    kind = part.content_type
    if kind in _TNEF or filename.lower() == "winmail.dat":
        return "winmail.dat (Outlook TNEF) not opened"
    if kind in _SMIME:
        return "S/MIME: encrypted or sealed mail not read"
    if kind in ("text/calendar", "application/ics"):
        method = "".join(c for c in part.type.parameters.get("method", "")[:20] if c.isalpha())
        return f"calendar entry ({method.upper()})" if method else "calendar entry"
    if kind == "application/pgp-keys":
        return "PGP key attached"
    return ""

"""Servers of mail providers, and what each wants of its customers before a program may log in.

The servers are those of Mozilla's ISPDB and of the providers' own help pages. Port 465 means TLS at once, 587
STARTTLS.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """A provider's servers (IMAP on port 993); ``needs`` says in one line what a login takes there."""

    name: str
    title: str
    smtp_host: str
    smtp_port: int
    imap_host: str
    needs: str


_PLAIN = "EMAIL_USER is the whole address, EMAIL_PASSWORD the password of that mailbox"
_SWITCH = (
    "access by POP3, IMAP and SMTP is off until you switch it on once in the web mailbox (settings, "
    "POP3/IMAP); with two-factor login, EMAIL_PASSWORD is an application password made there"
)
_FREENET = (
    "access by POP3, IMAP and SMTP is off until you switch it on once in the settings of the web mailbox"
)
_APP_PASSWORD = "EMAIL_PASSWORD is an app password, not the password of the account"  # noqa: S105
_GMAIL = (
    f"{_APP_PASSWORD}: it takes two-step verification and is made at myaccount.google.com/apppasswords; "
    "or use EMAIL_OAUTH_PROVIDER=google (docs/oauth.md)"
)
_ICLOUD = f"{_APP_PASSWORD}, made at account.apple.com; it takes two-factor authentication"
_SECURITY = f"{_APP_PASSWORD}, made under Account security"
_FASTMAIL = f"{_APP_PASSWORD}, made under Settings, Privacy & Security"
_MICROSOFT = (
    "passwords are refused: set EMAIL_OAUTH_PROVIDER=microsoft (docs/oauth.md), and let an administrator "
    "allow IMAP and authenticated SMTP for the mailbox"
)
_OUTLOOK = (
    "passwords are refused: set EMAIL_OAUTH_PROVIDER=microsoft and EMAIL_OAUTH_TENANT=consumers "
    "(docs/oauth.md), and allow IMAP in the settings of the mailbox"
)
_TELEKOM_TITLE = "Telekom (t-online.de, magenta.de)"
_TELEKOM = (
    "EMAIL_PASSWORD is the separate e-mail password from the Telekom customer centre; the password of the "
    "web mailbox is refused"
)
_MAILBOX_ORG = (
    "EMAIL_USER is the main address; with two-factor login, EMAIL_PASSWORD is an application password"
)
_POSTEO = (
    "EMAIL_PASSWORD is the password of the account; the 'additional email account protection' in its "
    "settings must be off, as it locks out IMAP and SMTP"
)
_INFOMANIAK = "EMAIL_PASSWORD is the password of the mail address (or a device password), not of the account"
_ZOHO = (
    "IMAP is off until you switch it on in the settings of the mailbox; with two-factor login, "
    "EMAIL_PASSWORD is an app password; accounts in Europe use imap.zoho.eu and smtp.zoho.eu"
)
_ALL = (
    Preset("gmail", "Gmail and Google Workspace", "smtp.gmail.com", 587, "imap.gmail.com", _GMAIL),
    Preset("microsoft365", "Microsoft 365", "smtp.office365.com", 587, "outlook.office365.com", _MICROSOFT),
    Preset(
        "outlook", "Outlook.com, Hotmail", "smtp-mail.outlook.com", 587, "outlook.office365.com", _OUTLOOK
    ),
    Preset("ionos", "IONOS", "smtp.ionos.de", 587, "imap.ionos.de", _PLAIN),
    Preset("strato", "STRATO", "smtp.strato.de", 465, "imap.strato.de", _PLAIN),
    Preset("gmx", "GMX", "mail.gmx.net", 587, "imap.gmx.net", _SWITCH),
    Preset("webde", "WEB.DE", "smtp.web.de", 587, "imap.web.de", _SWITCH),
    Preset("telekom", _TELEKOM_TITLE, "securesmtp.t-online.de", 465, "secureimap.t-online.de", _TELEKOM),
    Preset("freenet", "freenet Mail", "mx.freenet.de", 587, "mx.freenet.de", _FREENET),
    Preset("mailbox.org", "mailbox.org", "smtp.mailbox.org", 465, "imap.mailbox.org", _MAILBOX_ORG),
    Preset("posteo", "Posteo", "posteo.de", 465, "posteo.de", _POSTEO),
    Preset("hetzner", "Hetzner web hosting", "mail.your-server.de", 465, "mail.your-server.de", _PLAIN),
    Preset("infomaniak", "Infomaniak", "mail.infomaniak.com", 465, "mail.infomaniak.com", _INFOMANIAK),
    Preset("fastmail", "Fastmail", "smtp.fastmail.com", 465, "imap.fastmail.com", _FASTMAIL),
    Preset("icloud", "iCloud Mail", "smtp.mail.me.com", 587, "imap.mail.me.com", _ICLOUD),
    Preset("yahoo", "Yahoo Mail", "smtp.mail.yahoo.com", 465, "imap.mail.yahoo.com", _SECURITY),
    Preset("aol", "AOL Mail", "smtp.aol.com", 465, "imap.aol.com", _SECURITY),
    Preset("zoho", "Zoho Mail", "smtp.zoho.com", 465, "imap.zoho.com", _ZOHO),
)
PRESETS = {preset.name: preset for preset in _ALL}
# What a login by token takes beyond the token.
OAUTH_NEEDS = {
    "gmail": "the scope must be https://mail.google.com/, and EMAIL_USER the address that logged in",
    "microsoft365": "an administrator must allow IMAP and authenticated SMTP for this mailbox "
    "(Set-CASMailbox -ImapEnabled $true -SmtpClientAuthenticationDisabled $false); a client that acts by "
    "itself also needs its service principal and the right to this mailbox, see docs/oauth.md",
    "outlook": "IMAP must be allowed in the settings of the mailbox, and EMAIL_USER the address that "
    "logged in",
}
NAMES = ", ".join(PRESETS)
_ALIASES = (
    "google=gmail office365=microsoft365 microsoft=microsoft365 m365=microsoft365 hotmail=outlook "
    "apple=icloud web.de=webde t-online=telekom mailbox=mailbox.org 1und1=ionos 1&1=ionos gmx.net=gmx"
)
_OTHER_NAMES = dict(pair.split("=") for pair in _ALIASES.split())


def find_preset(name: str) -> Preset | None:
    """Return the provider of this name or alias, in any case."""
    key = name.strip().lower()
    return PRESETS.get(_OTHER_NAMES.get(key, key))


def preset_of_host(*hosts: str | None) -> Preset | None:
    """Return the provider that one of these servers belongs to, for settings that name the hosts."""
    wanted = {host.lower().rstrip(".") for host in hosts if host}
    found = (preset for preset in PRESETS.values() if {preset.smtp_host, preset.imap_host} & wanted)
    return next(found, None)

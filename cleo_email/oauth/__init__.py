"""OAuth 2.0 for the mailbox: tokens for XOAUTH2, renewed, shared and encrypted at rest."""

from cleo_email.oauth.client import GRANTS, PROVIDERS, OAuthClient, make_client
from cleo_email.oauth.endpoint import Endpoint, Tokens
from cleo_email.oauth.source import TokenSource
from cleo_email.oauth.vault import Vault

__all__ = [
    "GRANTS",
    "PROVIDERS",
    "Endpoint",
    "OAuthClient",
    "TokenSource",
    "Tokens",
    "Vault",
    "make_client",
]

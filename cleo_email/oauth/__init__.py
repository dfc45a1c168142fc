"""OAuth 2.0 for the mailbox: tokens for XOAUTH2, renewed, shared and encrypted at rest."""

"""IMAP: read a mailbox, flag mail in it, file and find sent mail."""

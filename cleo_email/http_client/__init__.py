"""HTTP as a client, every call under one total deadline."""

from cleo_email.http_client.address import WebAddress, proxy_address, web_address
from cleo_email.http_client.deadline import Deadline
from cleo_email.http_client.transport import AnswerTooLarge, HttpAnswer, HttpClient, tls_context

__all__ = [
    "AnswerTooLarge",
    "Deadline",
    "HttpAnswer",
    "HttpClient",
    "WebAddress",
    "proxy_address",
    "tls_context",
    "web_address",
]

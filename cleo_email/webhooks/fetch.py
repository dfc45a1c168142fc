"""Fetch data that a request only refers to: a certificate, a confirmation, a mail's content."""

import re
from collections.abc import Collection, Mapping

from cleo_email.errors import SettingsError
from cleo_email.http.address import web_address
from cleo_email.runtime import Deadline
from cleo_email.webhooks.base import NotNow, TooMuch, Unusable

FETCH_S = 8.0  # the provider waits meanwhile: 15 s with most
# No IP address: to some resolvers 2130706433, 127.1 and 0x7f000001 are addresses too.
_HOST_NAME = re.compile(r"([a-z0-9_-]+\.)*[a-z][a-z0-9-]*", re.IGNORECASE)


class Https:
    """Fetches over verified TLS, from host names only, on the usual port, without following redirects."""

    def __init__(self, environ: Mapping[str, str], *, ports: Collection[int] = (443,)) -> None:
        self._environ = environ
        self._ports = ports

    def __call__(self, url: str, *, headers: Mapping[str, str], max_bytes: int) -> bytes:
        try:
            address = web_address("URL", url)
        except SettingsError:
            raise Unusable("a URL that cannot be read is not fetched") from None
        plain = address.tls and address.port in self._ports and not address.basic
        if not plain or not _HOST_NAME.fullmatch(address.host):
            raise Unusable("only https:// URLs with a host's name are fetched")
        # libcurl is loaded at the first fetch, since most installations never need it.
        from cleo_email.http.client import AnswerTooLarge, HttpClient

        try:
            client = HttpClient(address, self._environ, max_bytes=max_bytes)
            answer = client.get(headers, Deadline(FETCH_S))
        except AnswerTooLarge:
            raise TooMuch(f"{address} sends more than {max_bytes} bytes") from None
        except SettingsError as error:
            raise NotNow(str(error)) from None
        except OSError as error:
            raise NotNow(f"{address} could not be asked ({type(error).__name__})") from None
        if 200 <= answer.status < 300:
            return answer.body
        reason = f"{address} answered {answer.status}"
        if answer.status in (408, 425, 429) or answer.status >= 500:
            raise NotNow(reason)
        raise Unusable(reason)

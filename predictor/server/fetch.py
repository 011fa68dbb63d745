"""Audio by URL: off unless a host is allowed, and then with every limit that can be set."""

import asyncio
import ipaddress
import socket
from dataclasses import dataclass

import httpx

from predictor.engine.errors import AudioTooLarge, InvalidRequest
from predictor.server.errors import quoted


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches files from allowed hosts.

    Attributes:
        allowed_hosts: names or addresses, lower case. A host that resolves to a private, loopback
            or link-local address is refused, unless it is itself written as an address or as
            ``localhost`` here.
        max_bytes: largest file.
        timeout_seconds: longest time for all of one fetch.
    """

    allowed_hosts: tuple[str, ...]
    max_bytes: int
    timeout_seconds: float

    async def fetch(self, url: str) -> bytes:
        """Bytes of the file at ``url``.

        Raises:
            InvalidRequest: the URL is not allowed, or its host does not answer with a file in time.
            AudioTooLarge: more bytes than the limit.
        """
        host, port = self._allowed(url)
        try:
            async with asyncio.timeout(self.timeout_seconds):
                await self._check_addresses(host, port)
                return await self._read(url, host)
        except TimeoutError:
            raise InvalidRequest(
                f"audio.url: {host} did not answer within {self.timeout_seconds:g} seconds"
            ) from None
        except (httpx.HTTPError, OSError) as error:
            raise InvalidRequest(f"audio.url: {host}: {type(error).__name__}") from None

    def _allowed(self, url: str) -> tuple[str, int]:
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL:
            raise InvalidRequest("audio.url: is not a URL") from None
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise InvalidRequest("audio.url: must be an http or https URL")
        if parsed.userinfo:
            raise InvalidRequest("audio.url: must not hold a user name or password")
        if parsed.host.lower() not in self.allowed_hosts:
            raise InvalidRequest(
                f"audio.url: host {quoted(parsed.host)} is not allowed; the setting "
                "allowed_url_hosts (SENSEVOICE_ALLOWED_URL_HOSTS) lists the hosts that are"
            )
        return parsed.host.lower(), parsed.port or (443 if parsed.scheme == "https" else 80)

    async def _check_addresses(self, host: str, port: int) -> None:
        if host == "localhost" or _is_address(host):
            return
        loop = asyncio.get_running_loop()
        for *_, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            if not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_global:
                raise InvalidRequest(f"audio.url: {host} is a private address")

    async def _read(self, url: str, host: str) -> bytes:
        timeout = self.timeout_seconds
        # No proxy from the environment: the check above would look at another connection.
        async with (
            httpx.AsyncClient(follow_redirects=False, trust_env=False, timeout=timeout) as client,
            client.stream("GET", url) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise InvalidRequest(
                    f"audio.url: {host} answered {response.status_code}; redirects are not followed"
                )
            data = bytearray()
            async for block in response.aiter_bytes():
                data += block
                if len(data) > self.max_bytes:
                    limit = self.max_bytes
                    raise AudioTooLarge(f"audio.url: the file exceeds the limit of {limit} bytes")
            return bytes(data)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True

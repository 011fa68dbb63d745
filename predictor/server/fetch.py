"""Audio by URL: off unless a host is allowed, and then with every limit that can be set."""

import asyncio
import io
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cached_property

import httpx

from predictor.engine.errors import AudioTooLarge, InvalidRequest, Overloaded
from predictor.server.allowlist import Allowlist, host_of, is_address, may_lead_to, port_of
from predictor.server.limits import ByteBudget, Share

MAX_FETCHES = 32
"""Files that are fetched at once, over all requests: a request with many URLs is one of many clients to
the hosts it names, never a flood."""

MAX_REDIRECTS = 3
"""An object store sends its clients on once or twice."""

MAX_DIGITS = 20
"""Of a Content-Length."""


class Fetcher:
    """Fetches files from allowed hosts.

    A host's name is looked up once. Every address it has is checked, and one of them is connected to:
    a name that leads elsewhere a moment later (DNS rebinding) is not asked again. TLS and the ``Host``
    header go by the name. Redirects are checked like the first URL. No proxy of the environment is used:
    it would look names up by itself; ``SSL_CERT_FILE`` names other authorities than those of ``certifi``.

    Args:
        allowlist: hosts and ports. A name that resolves to an address that is not public is refused,
            ``localhost`` and hosts that are listed as an address apart.
        max_bytes: largest file.
        timeout_seconds: longest time for all of one fetch, redirects included.
        budget: for the bytes of all files that are held.
    """

    def __init__(
        self, allowlist: Allowlist, max_bytes: int, timeout_seconds: float, budget: ByteBudget
    ) -> None:
        self._allowlist = allowlist
        self._max_bytes = max_bytes
        self._timeout_seconds = timeout_seconds
        self._budget = budget
        self._slots = asyncio.Semaphore(MAX_FETCHES)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        # It takes 25 ms to make: once.
        return httpx.create_ssl_context()

    @asynccontextmanager
    async def fetched(self, url: str) -> AsyncIterator[bytes]:
        """Bytes of the file at ``url``; they count in the budget until the context ends.

        Raises:
            InvalidRequest: the URL is not allowed, or its host does not answer with a file in time.
            AudioTooLarge: more bytes than the limit.
            Overloaded: too many files are being fetched, or too many bytes are held.
        """
        checked = self._allowlist.check(url)
        with self._budget.share() as share:
            await self._slot()
            try:
                data = await self._in_time(checked, share)
            finally:
                self._slots.release()
            yield data

    async def _slot(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._slots.acquire()
        except TimeoutError:
            raise Overloaded(
                f"audio.url: {MAX_FETCHES} other files are being fetched; come back later"
            ) from None

    async def _in_time(self, url: httpx.URL, share: Share) -> bytes:
        host = host_of(url)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._follow(url, share)
        except TimeoutError:
            raise InvalidRequest(
                f"audio.url: {host} did not answer within {self._timeout_seconds:g} seconds"
            ) from None
        except httpx.HTTPError as error:
            kind = type(error).__name__
            raise InvalidRequest(f"audio.url: {host} gave no valid answer ({kind})") from None
        except OSError:
            raise InvalidRequest(f"audio.url: {host} cannot be found") from None

    async def _follow(self, url: httpx.URL, share: Share) -> bytes:
        for _ in range(1 + MAX_REDIRECTS):
            answer = await self._get(url, share)
            if isinstance(answer, bytes):
                return answer
            url = self._next(url, answer)
        raise InvalidRequest(
            f"audio.url: {host_of(url)} redirects more than {MAX_REDIRECTS} times; give the last URL"
        )

    def _next(self, url: httpx.URL, location: str) -> httpx.URL:
        # Neither URL is quoted: what a host sends us on to may be secret, from clients as well.
        wrong = InvalidRequest(f"audio.url: {host_of(url)} redirects to a URL that is not allowed")
        try:
            following = self._allowlist.check(str(url.join(location)))
        except (httpx.InvalidURL, UnicodeError, InvalidRequest):
            raise wrong from None
        if (url.scheme, following.scheme) == ("https", "http"):
            raise wrong
        return following

    async def _get(self, url: httpx.URL, share: Share) -> bytes | str:
        """The file at a URL, or where the URL redirects to."""
        addresses = await self._addresses(url)
        timeout = httpx.Timeout(
            self._timeout_seconds, connect=self._timeout_seconds / len(addresses)
        )
        async with httpx.AsyncClient(
            verify=self._tls, trust_env=False, follow_redirects=False, timeout=timeout
        ) as client:
            for address in addresses[:-1]:
                try:
                    return await self._get_from(client, address, url, share)
                except (httpx.ConnectError, httpx.ConnectTimeout):
                    continue
            return await self._get_from(client, addresses[-1], url, share)

    async def _addresses(self, url: httpx.URL) -> list[str]:
        """All addresses of a URL's host, in the resolver's order.

        Raises:
            InvalidRequest: one of them is not public.
        """
        host = host_of(url)
        if is_address(host):
            return [host]
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port_of(url), type=socket.SOCK_STREAM
        )
        addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
        if not all(may_lead_to(host, address) for address in addresses):
            raise InvalidRequest(f"audio.url: {host} leads to an address that is not public")
        return addresses

    async def _get_from(
        self, client: httpx.AsyncClient, address: str, url: httpx.URL, share: Share
    ) -> bytes | str:
        request = client.build_request(
            "GET",
            url.copy_with(host=address),
            # What is compressed would have to be unpacked to be counted.
            headers={"Host": url.netloc.decode("ascii"), "Accept-Encoding": "identity"},
            extensions={"sni_hostname": host_of(url)},
        )
        response = await client.send(request, stream=True)
        try:
            return await self._read(response, host_of(url), share)
        finally:
            await response.aclose()

    async def _read(self, response: httpx.Response, host: str, share: Share) -> bytes | str:
        if response.has_redirect_location:
            return str(response.headers["location"])
        if response.status_code != httpx.codes.OK:
            raise InvalidRequest(f"audio.url: {host} answered {response.status_code}, not 200")
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise InvalidRequest(
                f"audio.url: {host} compresses its answer; it must send the file as it is"
            )
        declared = response.headers.get("content-length", "")
        # More digits than any file has bytes are as good as many.
        self._check_size(int(declared[:MAX_DIGITS]) if declared.isdecimal() else 0)
        # Its bytes are taken at the end without copying them once more.
        data = io.BytesIO()
        async for block in response.aiter_raw():
            self._check_size(data.tell() + len(block))
            share.add(len(block))
            data.write(block)
        return data.getvalue()

    def _check_size(self, n_bytes: int) -> None:
        if n_bytes > self._max_bytes:
            raise AudioTooLarge(
                f"audio.url: {n_bytes} bytes or more, the limit is {self._max_bytes} bytes"
            )

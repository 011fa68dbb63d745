"""Audio by URL under attack: by the one who names the URL, by whoever answers for its name, by the host."""

import asyncio
import datetime
import gzip
import ipaddress
import random
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from predictor.engine.errors import AudioTooLarge, InvalidRequest, SpeechError
from predictor.server import fetch
from predictor.server.allowlist import Allowlist, is_public
from predictor.server.fetch import Fetcher
from predictor.server.limits import ByteBudget

MAX_BYTES = 100_000
LIMIT_SECONDS = 0.5
MARGIN_SECONDS = 10
"""For a busy machine, beside the limit itself."""

OUTSIDE, INSIDE = "127.0.0.2", "127.0.0.3"
"""Stand for a public address and for one of the cluster's: no test connects to any but this machine."""

HOST = "audio.example"

URLS = {
    "an address in place of the name": "http://169.254.169.254/latest/meta-data/",
    "a decimal address": "http://2130706433/",
    "a hexadecimal address": "http://0x7f000001/",
    "an octal address": "http://0177.0.0.1/",
    "a short address": "http://127.1/",
    "full-width digits": "http://１２７.0.0.1/",
    "circled digits": "http://①②⑦.0.0.1/",
    "loopback": "http://127.0.0.1/",
    "loopback in IPv6": "http://[::1]/",
    "IPv4 in IPv6": "http://[::ffff:169.254.169.254]/",
    "a zone": "http://[fe80::1%25eth0]/",
    "all addresses": "http://0.0.0.0/",
    "the allowed host as a user": f"http://{HOST}@evil.example/",
    "the allowed host as user and password": f"http://{HOST}:80@evil.example/",
    "a user of the allowed host": f"http://user:password@{HOST}/",
    "the allowed host before a backslash": f"http://evil.example\\@{HOST}/",
    "a backslash after the allowed host": f"http://{HOST}\\@evil.example/",
    "the allowed host as a fragment": f"http://evil.example#@{HOST}/",
    "the allowed host as a query": f"http://evil.example?@{HOST}/",
    "the allowed host in front": f"http://{HOST}.evil.example/",
    "the allowed host behind": f"http://evil{HOST}/",
    "a subdomain": f"http://evil.{HOST}/",
    "a trailing dot": f"http://{HOST}./",
    "an escaped dot": "http://audio%2eexample/",
    "an escaped slash": f"http://{HOST}%2f.evil.example/",
    "a null": f"http://{HOST}%00.evil.example/",
    "a tab": f"http://{HOST}\t.evil.example/",
    "a line break": f"http://{HOST}\r\nHost: evil.example/",
    "a space": f"http://{HOST} .evil.example/",
    "a look-alike letter": "http://аudio.example/",
    "a ligature": "http://audio.exampﬁ/",
    "another port": f"http://{HOST}:22/",
    "another port in other digits": f"http://{HOST}:٢٢/",
    "port 0": f"http://{HOST}:0/",
    "a port beyond all": f"http://{HOST}:65616/",
    "files": "file:///etc/passwd",
    "a file of a host": f"file://{HOST}/etc/passwd",
    "another protocol": f"gopher://{HOST}/_GET",
    "data": "data:audio/wav;base64,UklGRg==",
    "no scheme": f"//{HOST}/a",
    "no host": "http:///a",
    "a relative URL": "/a",
    "nothing": "",
    "a megabyte": f"http://{HOST}/" + "a" * 1_000_000,
}

ADDRESSES = {
    "loopback": ("127.0.0.1", "127.255.255.254", "::1"),
    "this network": ("0.0.0.0", "0.1.2.3", "::"),  # noqa: S104
    "private": ("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fd00::1", "fc00::1"),
    "link-local": ("169.254.1.1", "fe80::1", "fe80::1%1", "febf::1"),
    "metadata of clouds": (
        "169.254.169.254",
        "fd00:ec2::254",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
    ),
    "shared by carriers": ("100.64.0.1", "100.127.255.254"),
    "multicast and broadcast": ("224.0.0.1", "239.1.1.1", "255.255.255.255", "ff02::1", "ff0e::1"),
    "reserved and documentation": (
        "240.0.0.1",
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.1",
        "198.18.0.1",
        "2001:db8::1",
        "3fff::1",
        "100::1",
    ),
    "IPv4 in IPv6": (
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:8.8.8.8",
        "::127.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "2001:0:53aa:64c::1",
    ),
    "site-local and unassigned": ("fec0::1", "4000::1", "5f00::1"),
}


@dataclass
class Names:
    """A resolver: what a name leads to, changed by its owner at each lookup."""

    answers: list[tuple[str, ...]]
    asked: list[str] = field(default_factory=list)

    async def __call__(self, host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        self.asked.append(host)
        addresses = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses]


@dataclass
class Host:
    """A server that writes what it is told to and then keeps the connection open."""

    port: int
    connections: int = 0
    sent: int = 0


@pytest.fixture
async def hosts() -> AsyncIterator[Callable]:
    """The function that starts a server: ``(first, *, again, every, port, address, tls)``."""
    servers: list[asyncio.Server] = []
    writers: list[asyncio.StreamWriter] = []

    async def start(
        first: bytes,
        again: bytes = b"",
        every: float = 0,
        port: int = 0,
        address: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> Host:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            host.connections += 1
            with suppress(OSError, asyncio.IncompleteReadError):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(first)
                while again:
                    await writer.drain()
                    writer.write(again)
                    host.sent += len(again)
                    await asyncio.sleep(every)
                await reader.read()
            writer.close()

        server = await asyncio.start_server(answer, address, port, ssl=tls)
        servers.append(server)
        host = Host(server.sockets[0].getsockname()[1])
        return host

    yield start
    for each in (*servers, *writers):
        each.close()


async def fetched(url: str, *entries: str, seconds: float = LIMIT_SECONDS) -> bytes:
    fetcher = Fetcher(Allowlist(entries), MAX_BYTES, seconds, ByteBudget(10 * MAX_BYTES))
    async with fetcher.fetched(url) as data:
        return data


def audio(body: bytes = b"audio", *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def moved(location: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


@pytest.mark.promise("A URL reaches only a host and port that a person has allowed, however spelt")
async def test_urls_that_try_to_get_round_the_allowlist(
    monkeypatch: pytest.MonkeyPatch, tried, effort
) -> None:
    names = Names([(INSIDE,)])
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", names)
    for what, url in URLS.items():
        with pytest.raises(InvalidRequest):
            await fetched(url, HOST)
        tried["spellings"] += 1
        assert not names.asked, f"{what} was looked up"
    generator = random.Random(7)
    allowlist = Allowlist((HOST,))
    pieces = [*URLS.values(), HOST, "evil.example", "@", ":", "\\", "#", "?", "%2e", "。", "[", "]"]
    for _ in range(effort(2_000, 200_000)):
        url = "".join(generator.choices(pieces[:-1], k=generator.randint(1, 4)))[:200]
        cut = generator.randrange(len(url) + 1)
        url = url[:cut] + generator.choice(pieces[-10:]) + url[cut:]
        try:
            checked = allowlist.check(url)
        except InvalidRequest:
            tried["random spellings refused"] += 1
        else:
            # Allowed means exactly: this host, at the ports that were allowed.
            assert checked.raw_host == HOST.encode(), url
            assert checked.port in (None, 80, 443), url
            assert not checked.userinfo, url
            tried["random spellings of the allowed host"] += 1


@pytest.mark.promise(
    "A name that leads to an address inside, of whatever form, is not connected to"
)
async def test_names_that_lead_inside(monkeypatch: pytest.MonkeyPatch, tried, effort) -> None:
    for addresses in ADDRESSES.values():
        for address in addresses:
            # One bad address among good ones is enough.
            names = Names([("93.184.216.34", address)])
            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", names)
            with pytest.raises(InvalidRequest, match=f"{HOST} leads to an address that is not pub"):
                await fetched(f"http://{HOST}/", HOST)
            tried["addresses"] += 1
    generator = random.Random(8)
    networks = [
        ipaddress.ip_network(text)
        for text in ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
                     "192.168.0.0/16", "224.0.0.0/3", "fc00::/7", "fe80::/10", "ff00::/8",
                     "::/32", "2002::/16", "2001::/32", "64:ff9b::a00:0/104", "64:ff9b::7f00:0/104")
    ]  # fmt: skip
    for _ in range(effort(2_000, 200_000)):
        network = generator.choice(networks)
        assert not is_public(network[generator.randrange(network.num_addresses)]), network
        tried["random addresses"] += 1


@pytest.fixture
async def rebinding(monkeypatch: pytest.MonkeyPatch) -> Names:
    """A name that leads outside when it is first looked up, and inside ever after."""
    names = Names([(OUTSIDE,), (INSIDE,)])
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", names)
    monkeypatch.setattr(fetch, "may_lead_to", lambda host, address: address == OUTSIDE)
    return names


@pytest.mark.promise("The address that was checked is the one that is connected to (DNS rebinding)")
async def test_a_name_that_changes_between_check_and_connection(
    rebinding: Names, hosts, tried
) -> None:
    outside = await hosts(audio(), address=OUTSIDE)
    inside = await hosts(audio(b"secret"), address=INSIDE, port=outside.port)
    entry = f"{HOST}:{outside.port}"
    assert await fetched(f"http://{entry}/a", entry) == b"audio"
    assert (outside.connections, inside.connections) == (1, 0)
    assert rebinding.asked == [HOST]
    # By now the name leads inside: the next one is refused.
    with pytest.raises(InvalidRequest, match="not public"):
        await fetched(f"http://{entry}/a", entry)
    assert inside.connections == 0
    tried["rebindings"] += 2


@pytest.mark.promise("The address that was checked is the one that is connected to (DNS rebinding)")
async def test_a_redirect_back_to_a_name_that_changed(rebinding: Names, hosts, tried) -> None:
    outside = await hosts(moved("/again"), address=OUTSIDE)
    inside = await hosts(audio(b"secret"), address=INSIDE, port=outside.port)
    entry = f"{HOST}:{outside.port}"
    with pytest.raises(InvalidRequest, match="not public"):
        await fetched(f"http://{entry}/a", entry)
    assert (outside.connections, inside.connections) == (1, 0)
    tried["rebindings"] += 1


@pytest.mark.promise("Redirects lead nowhere that the URL itself could not, and end")
async def test_redirects(hosts, tried) -> None:
    inside = await hosts(audio(b"secret"))
    locations = [
        f"http://127.0.0.1:{inside.port}/",
        f"//127.0.0.1:{inside.port}/",
        f"http://[::ffff:127.0.0.1]:{inside.port}/",
        f"http://2130706433:{inside.port}/",
        f"http://user@localhost:{inside.port}/",
        "file:///etc/passwd",
        "http://[::1",
        "http://169.254.169.254/",
    ]
    for location in locations:
        for status in (301, 302, 303, 307, 308):
            host = await hosts(moved(location, status))
            with pytest.raises(InvalidRequest, match=r"not allowed$|no valid answer") as error:
                await fetched(f"http://localhost:{host.port}/", f"localhost:{host.port}")
            assert location not in str(error.value)
            tried["redirects"] += 1
    loop = await hosts(moved("/"))
    with pytest.raises(InvalidRequest, match="redirects more than 3 times"):
        await fetched(f"http://127.0.0.1:{loop.port}/", f"127.0.0.1:{loop.port}", seconds=10)
    assert loop.connections == 4
    assert inside.connections == 0
    tried["redirects"] += loop.connections


BOMB = gzip.compress(bytes(50_000_000))

HOSTILE: dict[str, tuple[bytes, bytes, float]] = {
    "silence": (b"", b"", 0),
    "a header without an end": (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 10_000, 0),
    "headers without an end": (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 1000, 0),
    "interim answers without an end": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, 0),
    "a byte at a time": (b"HTTP/1.1 200 OK\r\n\r\n", b"a", 0.05),
    "a body without an end": (b"HTTP/1.1 200 OK\r\n\r\n", b"a" * 10_000, 0),
    "chunks without an end": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"2710\r\n" + b"a" * 10_000 + b"\r\n",
        0,
    ),
    "a chunk of any size": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        b"a" * 10_000,
        0,
    ),
    "a length beyond the limit": (b"HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n", b"", 0),
    "a length of many digits": (
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"",
        0,
    ),
    "a negative length": (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", b"", 0),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", b"", 0),
    "less than its length": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", b"", 0),
    "a gzip bomb": (audio(BOMB, "Content-Encoding: gzip"), b"", 0),
    "a coding that nobody knows": (audio(b"a", "Content-Encoding: x"), b"", 0),
    "HTTP/0.9": (b"<html>audio</html>\r\n\r\n", b"", 0),
    "another protocol": (b"SSH-2.0-OpenSSH_9.2\r\n", b"", 0),
    "binary": (bytes(range(256)) * 10, b"", 0),
    "an answer in parts": (b"HTTP/1.1 206 Partial\r\nContent-Length: 1\r\n\r\na", b"", 0),
    "an answer without a body": (b"HTTP/1.1 204 No Content\r\n\r\n", b"", 0),
    "switched protocols": (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", b"a", 0.01),
    "an error": (b"HTTP/1.1 500 Oops\r\nContent-Length: 6\r\n\r\nsecret", b"", 0),
    "a status that is none": (b"HTTP/1.1 999 Oops\r\nContent-Length: 0\r\n\r\n", b"", 0),
    "control characters in the reason": (b"HTTP/1.1 404 \x1b[2J\r\nX: \x00\r\n\r\n", b"", 0),
    "a redirect without a place": (b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", b"", 0),
}


@pytest.mark.promise("Whatever a host answers, a fetch ends within its limits of time and bytes")
async def test_hosts_that_answer_anything_but_a_file(hosts, tried, measured, effort) -> None:
    longest = largest = 0.0
    for _ in range(effort(1, 30)):
        for what, (first, again, every) in HOSTILE.items():
            host = await hosts(first, again, every)
            started = time.monotonic()
            with pytest.raises(SpeechError) as error:
                await fetched(f"http://127.0.0.1:{host.port}/", f"127.0.0.1:{host.port}")
            longest = max(longest, time.monotonic() - started)
            largest = max(largest, host.sent)
            assert isinstance(error.value, InvalidRequest | AudioTooLarge), what
            assert str(error.value).isprintable(), what
            # Refused by its header: what is unpacked has no size that was counted on the way.
            assert "gzip" not in what or "compresses" in str(error.value), what
            assert "secret" not in str(error.value), what
            tried["answers"] += 1
    assert longest < LIMIT_SECONDS + MARGIN_SECONDS
    measured["longest fetch"] = f"{longest:.1f} s at a limit of {LIMIT_SECONDS:g} s"
    measured["most that a host got rid of"] = f"{largest / 1e6:.1f} MB"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ssl.SSLContext]:
    """The function that makes a server's side of TLS with a certificate for a name, from an authority
    that is trusted unless ``trusted`` says otherwise."""
    folder = tmp_path_factory.mktemp("authority")
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)

    def issue(name: str, issuer: tuple | None, until: datetime.datetime) -> tuple:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer[1].subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 3 * day)
            .not_valid_after(until)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(
                x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True
            )
        )
        return key, builder.sign(issuer[0] if issuer else key, hashes.SHA256())

    roots = {trusted: issue("Authority", None, now + day) for trusted in (True, False)}
    (folder / "trusted.pem").write_bytes(roots[True][1].public_bytes(serialization.Encoding.PEM))

    def context(name: str, trusted: bool = True, expired: bool = False) -> ssl.SSLContext:
        key, certificate = issue(name, roots[trusted], now + (-day if expired else day))
        path: Path = folder / f"{name}-{trusted}-{expired}.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(path)
        return made

    context.file = folder / "trusted.pem"
    return context


@pytest.mark.promise("Over https only a host with a certificate for the URL's own name is believed")
async def test_certificates(hosts, authority, monkeypatch: pytest.MonkeyPatch, tried) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    good = await hosts(audio(), tls=authority("localhost"))
    entry = f"localhost:{good.port}"
    assert await fetched(f"https://{entry}/", entry, seconds=30) == b"audio"
    for tls in (
        authority("other.example"),
        authority("localhost", trusted=False),
        authority("localhost", expired=True),
        None,
    ):
        bad = await hosts(audio(), tls=tls)
        entry = f"localhost:{bad.port}"
        with pytest.raises(InvalidRequest, match=r"gave no valid answer|did not answer"):
            # Without TLS both sides wait for the other.
            await fetched(f"https://{entry}/", entry, seconds=30 if tls else 1)
        tried["certificates"] += 1
    plain = await hosts(audio(b"secret"))
    downgrade = await hosts(moved(f"http://localhost:{plain.port}/"), tls=authority("localhost"))
    entries = (f"localhost:{plain.port}", f"localhost:{downgrade.port}")
    with pytest.raises(InvalidRequest, match="redirects to a URL that is not allowed"):
        await fetched(f"https://localhost:{downgrade.port}/", *entries, seconds=30)
    assert plain.connections == 0
    tried["redirects from https to http"] += 1


@pytest.mark.promise("No proxy of the environment is asked: it would look names up by itself")
async def test_proxies(hosts, monkeypatch: pytest.MonkeyPatch, tried) -> None:
    proxy, host = await hosts(audio(b"proxy")), await hosts(audio())
    for variable in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.port}")
        entry = f"127.0.0.1:{host.port}"
        assert await fetched(f"http://{entry}/", entry, seconds=30) == b"audio"
        tried["variables"] += 1
    assert proxy.connections == 0

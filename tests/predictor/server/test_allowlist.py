"""Which URLs and addresses are allowed, and by how many spellings one may try to get round it."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.engine.errors import InvalidRequest
from predictor.server.allowlist import Allowlist, host_of, is_public, may_lead_to, port_of

ALLOWED = Allowlist(("audio.example", "media.example:8443", "münchen.example", "[2001:4860::1]:81"))


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://audio.example/a.wav", "audio.example", 80),
        ("https://AUDIO.example:443/a.wav?signature=x", "audio.example", 443),
        ("https://media.example:8443/a", "media.example", 8443),
        ("http://media.example:8443/a", "media.example", 8443),
        ("https://audio。example/", "audio.example", 443),
        ("https://MÜNCHEN.example/", "xn--mnchen-3ya.example", 443),
        ("https://xn--mnchen-3ya.example/", "xn--mnchen-3ya.example", 443),
        ("http://[2001:4860::1]:81/", "2001:4860::1", 81),
    ],
)
def test_spellings_of_an_allowed_host(url: str, host: str, port: int) -> None:
    checked = ALLOWED.check(url)
    assert (host_of(checked), port_of(checked)) == (host, port)


@pytest.mark.parametrize(
    "url",
    [
        "https://audio.example:8443/",
        "https://media.example/",
        "http://[2001:4860::1]/",
        "http://[2001:4860::2]:81/",
        "https://audio.example.evil.example/",
        "https://evil.example/audio.example",
        "https://evil.example?audio.example",
        "https://evil.example#@audio.example",
        "https://evil-audio.example/",
        "https://audio.example./",
        "https://audio%2eexample/",
    ],
)
def test_other_hosts_and_ports(url: str) -> None:
    with pytest.raises(InvalidRequest, match="is not allowed; the setting allowed_url_hosts"):
        ALLOWED.check(url)


@pytest.mark.parametrize("entry", ["localhost", "10.0.0.7:9000", "[::1]:80", "audio.example"])
def test_entries(entry: str) -> None:
    Allowlist((entry,)).check(f"http://{entry}/")


@pytest.mark.parametrize(
    "entry",
    ["https://a.example", "a.example/path", "a.example?b", "user@a.example", "*.example", "::1", "",
     "a b.example", "a.example:0", "a.example:70000", "a.example#b", "010.0.0.1"],
)  # fmt: skip
def test_entries_that_are_no_host(entry: str) -> None:
    with pytest.raises(ValueError, match="neither host nor host:port"):
        Allowlist((entry,))


@given(
    st.one_of(
        st.text(),
        st.tuples(
            st.sampled_from(("http://", "https://", "HTTP:/", "//", "http:\\\\")),
            st.text(alphabet="audio.exmpl-@:/\\?#[]%0123456789\t\n\r \ud800。．ﬀß"),
            st.sampled_from(("", "@audio.example", ".audio.example/", "audio.example:80/")),
        ).map("".join),
    )
)
def test_whatever_is_given_is_an_allowed_url_or_refused(text: str) -> None:
    try:
        url = ALLOWED.check(text)
    except InvalidRequest:
        return
    assert host_of(url) in {
        "audio.example", "media.example", "xn--mnchen-3ya.example", "2001:4860::1"
    }  # fmt: skip
    assert not url.userinfo


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "64:ff9b::808:808", "2a00:1450:4001::1"],
)
def test_public_addresses(address: str) -> None:
    assert is_public(ip_address(address))


def test_a_name_for_this_machine_leads_to_this_machine_only() -> None:
    assert may_lead_to("localhost", "127.0.0.1")
    assert may_lead_to("localhost", "::1")
    assert not may_lead_to("localhost", "10.0.0.1")
    assert not may_lead_to("localhost", "93.184.216.34")
    assert not may_lead_to("audio.example", "127.0.0.1")
    assert not may_lead_to("audio.example", "fe80::1%eth0")

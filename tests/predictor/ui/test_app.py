"""What the page's server answers, without a browser."""

import re
from pathlib import Path

import httpx


def test_headers_let_nothing_in_from_elsewhere(page_url):
    for path in ("", "page/result.js", "config", "nowhere"):
        headers = httpx.get(page_url + path).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "http" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_the_first_script_is_ours(page_url):
    page = httpx.get(page_url, headers={"accept-encoding": "br, gzip"})
    head = page.text.index("<head>") + len("<head>")
    assert page.text[head:].startswith('<script src="page/language.js">')
    assert int(page.headers["content-length"]) == len(page.content)


def test_assets_name_no_other_host():
    assets = Path(__file__).parents[3] / "predictor" / "ui" / "assets"
    for file in assets.iterdir():
        found = set(re.findall(r"https?://[\w.]+", file.read_text("utf-8")))
        assert found <= {"http://www.w3.org"}, file.name

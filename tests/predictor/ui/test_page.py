"""The page in a real browser, over a real predictor."""

import io
import re
import wave

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter

from predictor.engine.types import Transcript

pytestmark = pytest.mark.asyncio(loop_scope="package")

SHAPE = (0xA9, 0xB3, 0xC4)
BLUE, GREEN, VERMILION, PURPLE = (0, 114, 178), (0, 158, 115), (213, 94, 0), (204, 121, 167)


async def take_example(tab, name):
    await tab.get_by_role("button", name=name, exact=True).click()
    await tab.wait_for_selector(".sv-timeline")


async def upload(tab, path):
    await tab.set_input_files("#sv-audio input[type=file]", path)


async def share_of(locator, colour):
    """Share of an element's pixels that have a colour."""
    image = np.asarray(Image.open(io.BytesIO(await locator.screenshot())).convert("RGB"))
    return float((np.abs(image.astype(int) - colour).max(axis=2) <= 3).mean())


async def test_an_example_becomes_a_timeline(open_page, page_url):
    tab = await open_page(page_url)
    assert await tab.title() == "SenseVoice"
    await tab.wait_for_selector(".sv-status[data-state=ready]")
    await take_example(tab, "Everything in 40 s")
    rows = await tab.locator(".sv-segment").count()
    assert rows >= 9
    labels = {}
    for kind in ("language", "emotion", "event"):
        bars = tab.locator(f".sv-lane[data-kind={kind}] .sv-bar")
        assert await bars.count() == rows
        labels[kind] = set(await bars.evaluate_all("bars => bars.map((bar) => bar.dataset.label)"))
    assert labels["language"] >= {"zh", "en", "yue", "ja", "ko"}
    assert {"HAPPY", "NEUTRAL"} < labels["emotion"]
    assert {"Speech", "Laughter"} <= labels["event"]
    assert await share_of(tab.locator(".sv-wave"), SHAPE) > 0.05
    lane = tab.locator(".sv-lane[data-kind=language]")
    for colour in (BLUE, GREEN, VERMILION, PURPLE):
        assert await share_of(lane, colour) > 0.01
    texts = await tab.locator(".sv-words").all_inner_texts()
    assert "My phone is broken on Friday." in texts
    assert any("Nobody speaks" in text for text in texts)


async def test_bars_lie_where_their_segments_are(conversation):
    tab = conversation
    wave_box = await tab.locator(".sv-wave").bounding_box()
    bar = tab.locator(".sv-lane[data-kind=event] .sv-bar").nth(3)
    said = await bar.get_attribute("aria-label")
    start, end = (60 * int(m) + float(s) for m, s in re.findall(r"(\d+):(\d+\.\d)", said))
    total = await tab.locator(".sv-wave").get_attribute("aria-valuemax")
    box = await bar.bounding_box()
    for seconds, x in ((start, box["x"]), (end, box["x"] + box["width"])):
        assert (x - wave_box["x"]) / wave_box["width"] * float(total) == pytest.approx(
            seconds, abs=0.2
        )


async def test_a_click_plays_the_segment_and_stops_behind_it(conversation):
    tab = conversation
    bar = tab.locator(".sv-lane[data-kind=emotion] .sv-bar").nth(1)
    start, end = (
        60 * int(m) + float(s)
        for m, s in re.findall(r"(\d+):(\d+\.\d)", await bar.get_attribute("aria-label"))
    )
    await bar.click()
    await tab.wait_for_selector(".sv-play[aria-label=Pause]")
    await tab.wait_for_selector(".sv-segment.sv-now >> nth=0")
    assert start <= await position(tab) <= end + 0.3
    await tab.wait_for_selector(".sv-play[aria-label=Play]")
    assert await position(tab) == pytest.approx(end, abs=0.3)


async def position(tab):
    return float(await tab.locator(".sv-wave").get_attribute("aria-valuenow"))


async def at(tab, seconds):
    script = "s => Math.abs(document.querySelector('.sv-wave').ariaValueNow - s) < 0.2"
    await tab.wait_for_function(script, arg=seconds)


async def test_words_and_the_waveform_move_the_position(conversation):
    tab = conversation
    wave_box = await tab.locator(".sv-wave").bounding_box()
    total = float(await tab.locator(".sv-wave").get_attribute("aria-valuemax"))
    await tab.mouse.click(wave_box["x"] + wave_box["width"] / 2, wave_box["y"] + 20)
    await at(tab, total / 2)
    await tab.get_by_text("Friday.", exact=True).click()
    await tab.wait_for_function("document.querySelector('.sv-wave').ariaValueNow < 3")
    assert await position(tab) > 0.5


async def test_the_keyboard_is_enough(conversation):
    tab = conversation
    slider = tab.get_by_role("slider", name="Position")
    await slider.focus()
    for key, seconds in (("Home", 0), ("ArrowRight", 5), ("ArrowRight", 10), ("ArrowLeft", 5)):
        await tab.keyboard.press(key)
        await at(tab, seconds)
    lane = tab.get_by_role("group", name="Emotion")
    await lane.locator("[tabindex='0']").focus()
    assert await lane.locator("[tabindex='0']").count() == 1
    await tab.keyboard.press("ArrowRight")
    second = lane.locator(".sv-bar").nth(1)
    assert await second.evaluate("bar => bar === document.activeElement")
    await tab.keyboard.press("Enter")
    await tab.wait_for_selector(".sv-play[aria-label=Pause]")


async def test_zoom_widens_the_timeline_and_back(conversation):
    tab = conversation

    async def width():
        return (await tab.locator(".sv-inner").bounding_box())["width"]

    before = await width()
    await tab.get_by_role("button", name="Zoom in").click()
    assert await width() == pytest.approx(2 * before, rel=0.05)
    names = await tab.locator(".sv-lane[data-kind=emotion] .sv-bar span").evaluate_all(
        "spans => spans.filter((span) => span.offsetTop < 20).map((span) => span.textContent)"
    )
    assert "Happy" in names
    await tab.get_by_role("button", name="Zoom out").click()
    assert await width() == pytest.approx(before, rel=0.05)


async def test_doubtful_words_are_shaded(conversation):
    tab = conversation
    words = await tab.locator(".sv-word").evaluate_all(
        "spans => spans.map((span) => [+span.dataset.confidence, getComputedStyle(span).backgroundColor])"
    )
    shades = {c: float(re.search(r"([\d.]+)\)$", colour)[1]) for c, colour in words}
    sure, doubtful = max(shades), min(shades)
    assert doubtful < 0.9 < sure
    assert shades[doubtful] > shades[sure] == 0


async def test_what_is_saved_can_be_read(conversation, tmp_path):
    tab = conversation
    texts = {}
    for kind in ("SRT", "VTT", "JSON"):
        async with tab.expect_download() as downloading:
            await tab.get_by_role("link", name=kind, exact=True).click()
        download = await downloading.value
        assert download.suggested_filename == f"conversation.{kind.lower()}"
        await download.save_as(tmp_path / kind)
        texts[kind] = (tmp_path / kind).read_text("utf-8")
    transcript = TypeAdapter(Transcript).validate_json(texts["JSON"])
    said = [segment.text for segment in transcript.segments if segment.text]
    assert len(said) >= 8
    stamp = r"\d\d:\d\d:\d\d[,.]\d{3}"
    cue = rf"(?:\d+\n)?({stamp}) --> ({stamp})\n(.+)\n"
    assert texts["VTT"].startswith("WEBVTT\n")
    for kind in ("SRT", "VTT"):
        cues = re.findall(cue, texts[kind])
        assert [text for _, _, text in cues] == said
        assert all(start < end for start, end, _ in cues)
    await tab.get_by_role("button", name="Copy text").click()
    await tab.get_by_role("button", name="Copied").wait_for()
    assert await tab.evaluate("navigator.clipboard.readText()") == transcript.text


async def test_a_file_of_ones_own_with_options(open_page, page_url, demo_model_dir):
    tab = await open_page(page_url)
    assert await tab.locator("#sv-language input:checked").get_attribute("value") == "auto"
    await tab.get_by_label("Punctuation, capitals and digits").uncheck()
    await upload(tab, demo_model_dir / "evaluation" / "en-001.opus")
    await tab.get_by_text("i want eight blue phones").wait_for()
    await tab.get_by_label("Punctuation, capitals and digits").check()
    await tab.locator("#sv-language").get_by_text("English").click()
    await tab.get_by_role("button", name="Transcribe").click()
    await tab.get_by_text("I want 8 blue phones.").wait_for()


async def test_a_refusal_is_shown_in_the_services_words(open_page, page_url, tmp_path):
    tab = await open_page(page_url)
    letter = tmp_path / "letter.wav"
    letter.write_text("Dear Sir or Madam")
    await upload(tab, letter)
    alert = tab.get_by_role("alert")
    await alert.wait_for()
    said = await alert.inner_text()
    assert said.split("\n")[0] == "The service refused"
    assert "audio: not in a known audio format, or damaged at its start" in said


async def test_nothing_to_transcribe(open_page, page_url):
    tab = await open_page(page_url)
    await tab.get_by_role("button", name="Transcribe").click()
    await tab.get_by_text("There is no audio yet").wait_for()


async def test_silence(open_page, page_url, tmp_path):
    tab = await open_page(page_url)
    with wave.open(str(tmp_path / "silence.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(bytes(32000))
    await upload(tab, tmp_path / "silence.wav")
    await tab.get_by_text("Nobody speaks here").wait_for()
    assert await tab.locator(".sv-bar").count() == 0


async def test_chinese_follows_the_browser_and_the_switch(open_page, page_url):
    tab = await open_page(page_url, locale="zh-CN")
    assert await tab.evaluate("document.documentElement.lang") == "zh-CN"
    await tab.get_by_text("还没有内容").wait_for()
    await tab.get_by_text("将音频拖放到此处").wait_for()  # gradio's own
    await take_example(tab, "40 秒看全部")
    await tab.get_by_text("这里没有人说话").wait_for()
    assert {"英语", "粤语"} <= set(await tab.locator(".sv-legend-row > span").all_inner_texts())
    await tab.get_by_role("button", name="English", exact=True).first.click()
    await tab.get_by_text("Nothing here yet").wait_for()
    await tab.reload()
    await tab.get_by_text("Nothing here yet").wait_for()
    await tab.get_by_text("Drop Audio Here").wait_for()


async def test_a_phone(open_page, page_url):
    tab = await open_page(page_url, width=390, height=844)
    await take_example(tab, "Everything in 40 s")
    assert await tab.evaluate("document.documentElement.scrollWidth") == 390
    assert await tab.get_by_role("tab", name="Live").is_visible()
    scroll = tab.locator(".sv-scroll")
    assert await scroll.evaluate("box => box.scrollWidth > 1.5 * box.clientWidth")
    for one in await tab.locator("button:visible, a:visible").all():
        box = await one.bounding_box()
        assert box["x"] + box["width"] <= 390 or await one.evaluate(
            "e => !!e.closest('.sv-scroll')"
        )
    bars = await tab.locator(".sv-bar").evaluate_all("bars => bars.map((bar) => bar.offsetWidth)")
    assert np.median(bars) >= 44


async def test_the_dark_scheme(open_page, page_url):
    tab = await open_page(page_url)
    await tab.emulate_media(color_scheme="dark")
    await tab.reload()
    await take_example(tab, "Everything in 40 s")
    image = Image.open(io.BytesIO(await tab.locator(".sv-card").first.screenshot())).convert("L")
    assert np.median(np.asarray(image)) < 80


async def test_a_service_that_starts_from_zero(
    open_page, page_of, new_port, start_server, demo_model_dir, tmp_path
):
    port, service = new_port(), new_port()
    with page_of(service_url=f"http://127.0.0.1:{service}", http_port=port, start_seconds=7) as url:
        tab = await open_page(url)
        await tab.get_by_text("Waking up, about 7 s").wait_for()
        await tab.get_by_role("button", name="English", exact=True).click()
        await tab.get_by_text("The service is waking up, about 7 s").wait_for()
        for _ in start_server(demo_model_dir, tmp_path / "log", f"--http_port={service}"):
            await tab.wait_for_selector(".sv-timeline")
            await tab.wait_for_selector(".sv-status[data-state=ready]")


async def test_a_service_that_does_not_come(open_page, page_of, new_port):
    port, service = new_port(), new_port()
    gone = {"service_url": f"http://127.0.0.1:{service}", "patience_seconds": 0}
    with page_of(http_port=port, **gone) as url:
        tab = await open_page(url, locale="zh-CN")
        await tab.get_by_role("button", name="粵語").click()
        alert = tab.get_by_role("alert")
        await alert.wait_for()
        assert "无法连接服务" in await alert.inner_text()
        assert f"127.0.0.1:{service}" in await alert.inner_text()


async def test_the_microphone_lives(open_page, page_url):
    tab = await open_page(page_url)
    await tab.get_by_role("tab", name="Live").click()
    await tab.get_by_role("button", name="Start listening").click()
    await tab.get_by_text("Listening").or_(tab.get_by_text("Speech", exact=True)).first.wait_for()
    await tab.locator(".sv-live .sv-chips").first.wait_for()
    await tab.get_by_role("button", name="Stop").click()
    await tab.get_by_role("button", name="Start listening").wait_for()
    first = tab.locator(".sv-live .sv-segment").first
    assert "English" in await first.locator(".sv-chips").inner_text()
    # The browser's device begins anywhere in the clip, so how the first turn ends is not known.
    assert (await first.locator(".sv-words").inner_text()).strip()

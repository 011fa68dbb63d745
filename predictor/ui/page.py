"""The page's layout, and what happens on it."""

import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import gradio
from gradio.i18n import I18nData

from predictor.engine.types import AUTO
from predictor.ui import examples, result
from predictor.ui.examples import EXAMPLES
from predictor.ui.result import State
from predictor.ui.service import Service
from predictor.ui.settings import Settings

LANGUAGE_NAMES = (
    ("中文", "zh"),
    ("English", "en"),
    ("粵語", "yue"),
    ("日本語", "ja"),
    ("한국어", "ko"),
)
"""As their speakers write them: the same in every language of the page."""

SWEEP_SECONDS = 600
"""How often files that were kept long enough are deleted."""


NAMESPACE = "sensevoice_"
"""In front of our texts' names, for gradio has texts of its own."""


def text(name: str) -> I18nData:
    """A text of ``texts/``, in the language that the browser asks for."""
    return I18nData(NAMESPACE + name)


def translations(texts: Mapping[str, Mapping[str, Any]]) -> gradio.I18n:
    """What gradio has to know for :func:`text`.

    Args:
        texts: language → its texts.
    """

    def single(told: Mapping[str, Any]) -> dict[str, str]:
        return {NAMESPACE + name: value for name, value in told.items() if isinstance(value, str)}

    return gradio.I18n(**{language: single(told) for language, told in texts.items()})


def theme() -> gradio.themes.Base:
    """Quiet colours; fonts of the system, which has every script, and none from elsewhere."""
    system = ("ui-sans-serif", "system-ui", "PingFang SC", "Noto Sans CJK SC", "sans-serif")
    return gradio.themes.Base(
        primary_hue="indigo",
        secondary_hue="indigo",
        neutral_hue="slate",
        radius_size="lg",
        font=system,
        font_mono=("ui-monospace", "monospace"),
    )


def drawn_by(script: str, name: str, value: State | None = None) -> gradio.HTML:
    """An element that a module of ``assets/`` draws: its function ``mount`` is given the element, its
    properties, and a way to be told when they change."""
    load = f"import(new URL('page/{script}', document.baseURI)).then((m) => m.mount(element, props, watch))"
    return gradio.HTML(
        value,
        html_template=f'<div class="sv-{name}"></div>',
        js_on_load=load,
        apply_default_css=False,
        elem_id=f"sv-{name}",
    )


def build_page(service: Service, settings: Settings) -> gradio.Blocks:
    """The page over a service."""
    folder = Path(tempfile.mkdtemp(prefix="sensevoice-examples-"))

    async def transcribe(audio: str | None, language: str, use_itn: bool) -> AsyncIterator[State]:
        if audio is None:
            yield result.NO_AUDIO
            return
        async for state in service.transcribe(Path(audio), language, use_itn):
            yield state

    page: gradio.Blocks = gradio.Blocks(
        title="SenseVoice",
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(SWEEP_SECONDS, settings.keep_seconds),
    )
    with page:
        header = drawn_by("header.js", "header")
        with gradio.Tabs(elem_id="sv-tabs"):
            with gradio.Tab(text("tab_file"), id="file"), gradio.Row(elem_id="sv-file"):
                with gradio.Column(scale=4, min_width=300, elem_id="sv-input"):
                    audio = gradio.Audio(
                        sources=["upload", "microphone"],
                        type="filepath",
                        label=text("audio"),
                        buttons=[],
                        editable=False,
                        elem_id="sv-audio",
                        waveform_options=gradio.WaveformOptions(show_recording_waveform=False),
                    )
                    gradio.Markdown(text("examples"), elem_id="sv-examples-label")
                    with gradio.Row(elem_id="sv-examples"):
                        buttons = [
                            (example, gradio.Button(text(f"example_{example.name}"), size="sm"))
                            for example in EXAMPLES
                        ]
                    language = gradio.Radio(
                        [(text("auto"), AUTO), *LANGUAGE_NAMES],
                        value=AUTO,
                        label=text("language"),
                        elem_id="sv-language",
                    )
                    itn = gradio.Checkbox(
                        True, label=text("itn"), info=text("itn_hint"), elem_id="sv-itn"
                    )
                    run = gradio.Button(text("transcribe"), variant="primary", elem_id="sv-run")
                with gradio.Column(scale=8, min_width=300):
                    shown = drawn_by("result.js", "result", result.IDLE)
            with gradio.Tab(text("tab_live"), id="live"):
                drawn_by("live.js", "live")

        asked = {
            "fn": transcribe,
            "inputs": [audio, language, itn],
            "outputs": shown,
            "concurrency_limit": None,
            "show_progress": "hidden",
            "api_visibility": "private",
        }
        runs = [
            gradio.on(
                [run.click, audio.upload, audio.stop_recording], trigger_mode="always_last", **asked
            )
        ]
        for example, button in buttons:
            chosen = button.click(
                lambda example=example: str(examples.write(example, folder)),
                outputs=audio,
                show_progress="hidden",
                api_visibility="private",
            )
            runs.append(chosen.then(**asked))
        audio.clear(lambda: result.IDLE, outputs=shown, cancels=runs, show_progress="hidden")
        page.load(
            service.wake,
            outputs=header,
            show_progress="hidden",
            api_visibility="private",
            concurrency_limit=None,
        )
    return page

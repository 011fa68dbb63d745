"""The page's server: its own files, the live connection, and gradio for the rest."""

from pathlib import Path

import gradio
import orjson
from fastapi import FastAPI, Response
from starlette.staticfiles import StaticFiles

from predictor.ui import texts
from predictor.ui.headers import FirstScript, SecurityHeaders
from predictor.ui.live import live_route
from predictor.ui.page import build_page, theme, translations
from predictor.ui.service import Service
from predictor.ui.settings import Settings

ASSETS = Path(__file__).parent / "assets"


def create_app(settings: Settings) -> FastAPI:
    """The application: the page at ``/``, its files under ``/page``, live audio at ``/live``."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    told = {language: texts.read(language) for language in texts.LANGUAGES}
    script = (ASSETS / "language.js").read_text("utf-8")
    script = script.replace("TEXTS", orjson.dumps(told).decode())

    @app.get("/page/language.js")
    async def language() -> Response:
        return Response(script, media_type="text/javascript", headers={"Cache-Control": "no-cache"})

    app.mount("/page", StaticFiles(directory=ASSETS))
    app.include_router(live_route(settings))
    app.add_middleware(FirstScript, source="page/language.js")
    app.add_middleware(SecurityHeaders)
    gradio.mount_gradio_app(
        app,
        build_page(Service(settings), settings),
        path="/",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        max_file_size=settings.max_audio_bytes,
        favicon_path=str(ASSETS / "icon.svg"),
        i18n=translations(told),
        theme=theme(),
        css_paths=[ASSETS / "page.css"],
    )
    return app

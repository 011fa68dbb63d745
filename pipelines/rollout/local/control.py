"""The daemon's control API: what a Kubernetes API, its events and Prometheus are to a cluster."""

import json
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from pipelines.rollout.local.document import Model, Percent
from pipelines.rollout.local.meter import Meter
from pipelines.rollout.local.service import Service
from pipelines.rollout.target import Conflict, Observed, Traffic

EVENTS = "events.jsonl"


class Change(BaseModel):
    """A decision on the service, made on one version of it.

    Attributes:
        percent: the canary's share; null: no canary, the newest revision has all.
        model: absent or null leaves the model.
    """

    model_config = ConfigDict(extra="forbid")

    version: str
    state: str
    percent: Percent | None
    model: Model | None = None


class Event(BaseModel):
    """``reason``: one CamelCase word."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z]*$")]
    message: str
    warning: bool = False


def control(service: Service, meter: Meter, directory: Path, token: str) -> FastAPI:
    """The API. Errors are ``{"error": "<sentence>"}``: 401 without the token, 409 where the service has
    changed, 422 for what is missing, unknown or out of range.

    Args:
        directory: events are appended to a file in it.
        token: every request must bear it.
    """

    def authorized(request: Request) -> None:
        given = request.headers.get("authorization", "")
        if not secrets.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise HTTPException(401, "the daemon's token is missing; see address.json")

    app = FastAPI(openapi_url=None, dependencies=[Depends(authorized)])

    @app.get("/service")
    async def observe() -> Observed:
        return service.observe()

    @app.patch("/service")
    async def write(change: Change) -> Observed:
        return await service.write(
            change.version, state=change.state, percent=change.percent, model=change.model
        )

    @app.get("/traffic")
    async def measure(revision: str, seconds: Annotated[float, Query(gt=0)]) -> Traffic:
        return meter.measure(revision, seconds)

    @app.post("/events", status_code=201)
    def record(event: Event) -> None:
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "type": "Warning" if event.warning else "Normal",
            "reason": event.reason,
            "message": event.message,
        }
        with (directory / EVENTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")

    @app.exception_handler(Conflict)
    async def conflict(_: Request, error: Conflict) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 409)

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        problems = [
            f"{'.'.join(map(str, each['loc'][1:])) or each['loc'][0]}: {each['msg']}"
            for each in error.errors()
        ]
        return JSONResponse({"error": "; ".join(problems)}, 422)

    return app

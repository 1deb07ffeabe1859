"""The sandbox as an ASGI application."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse

from airflow_provider_fbca.sandbox import admin, gateway, oauth, page
from airflow_provider_fbca.sandbox.clock import Clock
from airflow_provider_fbca.sandbox.settings import Settings
from airflow_provider_fbca.sandbox.world import World

_METHODS = ["GET", "POST", "DELETE", "PUT", "PATCH"]


def create_app(settings: Settings | None = None, clock: Clock | None = None) -> FastAPI:
    """Return a sandbox with a state of its own.

    :param settings: what it starts from.
    :param clock: its time; by default the machine's, which a test can move through ``/sandbox/clock``.
    """
    world = World(settings or Settings(), clock or Clock())
    app = FastAPI(
        title="Sandbox Graph API", docs_url="/sandbox/docs", redoc_url=None, openapi_url="/sandbox/openapi.json"
    )
    app.state.world = world
    app.include_router(admin.router)
    app.include_router(oauth.router)

    @app.get("/", include_in_schema=False)
    async def front_page() -> HTMLResponse:
        return HTMLResponse(page.render(world))

    @app.api_route("/{path:path}", methods=_METHODS, include_in_schema=False)
    async def graph_api(request: Request) -> Response:
        return await gateway.handle(world, request)

    return app

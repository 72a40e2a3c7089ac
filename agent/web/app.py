"""The application: its routes, and what is said where one breaks off."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from agent import __version__
from agent.web import analyze, events, export, health, metrics, pictures, scans, session, static, status, verdicts
from agent.web.body import invalid
from agent.web.context import Context
from agent.web.openapi import describe
from agent.web.problems import INTERNAL, METHOD, NOT_FOUND, Problem

ROUTERS = (session, scans, pictures, analyze, verdicts, export, status, events, health, metrics, static)


def make_app(context: Context) -> FastAPI:
    """The application around a context."""
    app = FastAPI(
        title="DermaScan Edge",
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Each problem is a document of its own kind; FastAPI's own are not used.
        exception_handlers={
            Problem: _problem,
            RequestValidationError: _invalid,
            HTTPException: _http,
            Exception: _fault,
        },
    )
    app.state.context = context
    for module in ROUTERS:
        app.include_router(module.router)
    describe(app)
    return app


async def _problem(_: Request, error: Exception) -> Response:
    """What was refused, and why. The way there is forgotten: it holds the body, and the answer may have to wait."""
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return (error if isinstance(error, Problem) else _ours()).response()


async def _invalid(_: Request, error: Exception) -> Response:
    return (invalid(error.errors()) if isinstance(error, RequestValidationError) else _ours()).response()


async def _http(_: Request, error: Exception) -> Response:
    """What starlette refuses by itself: an unknown path, or another method than there is."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 405:
        headers = error.headers if isinstance(error, HTTPException) else None
        return Problem(METHOD, "Ask with another method; Allow names it.", headers=headers).response()
    if status == 404:
        return Problem(NOT_FOUND, "There is nothing at this path; GET /api/v1/openapi.json lists what is.").response()
    return _ours().response()


async def _fault(_: Request, __: Exception) -> Response:
    """A fault of ours: the shell logs it."""
    return _ours().response()


def _ours() -> Problem:
    return Problem(INTERNAL, "The request was not done. Try again; if it stays so, call your support.")

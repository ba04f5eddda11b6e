"""The description of the ops app, made from the tables that it runs by."""

from collections.abc import Mapping
from typing import Any

from asgi_errorkit.ops.acts import ACTS, Acting
from asgi_errorkit.ops.asked import Parameter
from asgi_errorkit.ops.endpoints import GROUP, READS, Read
from asgi_errorkit.ops.source import Source

__all__ = ["described"]

_ANY = {"schema": {"type": "object"}}
_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
_BY: list[dict[str, list[str]]] = [{"bearer": []}, {"session": []}]
_REFUSED = {
    "401": {"description": "A token is needed", "content": _PROBLEM},
    "403": {"description": "An unknown Host, or another origin", "content": _PROBLEM},
}
_READY = {
    "200": {"description": "Ready", "content": {"application/json": _ANY}},
    "503": {"description": "Not ready", "content": {"application/json": _ANY}},
}


def described(base: str, source: Source, *, cookie: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document; ``base`` is where the app is mounted.

    What the source cannot do is not in it.
    """
    paths: dict[str, Any] = {path: {"get": _read(path, read)} for path, read in READS.items()}
    for path, acting in ACTS.items():
        if acting.is_possible(source):
            paths[path]["post"] = _acting(path, acting)
    return {
        "openapi": "3.1.0",
        "info": {"title": "asgi-errorkit ops", "version": "1"},
        "servers": [{"url": base or "/"}],
        "security": _BY,
        "paths": {**paths, **_others()},
        "components": {
            "schemas": {"Problem": _problem()},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": cookie},
            },
        },
    }


def _read(path: str, read: Read) -> dict[str, Any]:
    parameters = [_parameter(each) for each in read.parameters]
    if path == GROUP:
        parameters = [_ID]
    return _operation(
        read.about,
        {
            "200": {"description": read.about, "content": {"application/json": _ANY}},
            "400": {"description": "A parameter cannot be", "content": _PROBLEM},
            "414": {"description": "The query is too long", "content": _PROBLEM},
            "503": {"description": "Others read, or the record cannot be", "content": _PROBLEM},
            **({"404": {"description": "None", "content": _PROBLEM}} if path == GROUP else {}),
        },
        parameters=parameters,
    )


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": "query",
        "description": parameter.about,
        "schema": dict(parameter.schema),
    }


def _acting(path: str, acting: Acting) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": list(acting.required),
        "additionalProperties": False,
        "properties": dict(acting.properties),
    }
    told = _operation(
        acting.about,
        {
            "200": {"description": "As it is now", "content": {"application/json": _ANY}},
            "400": {"description": "The body cannot be", "content": _PROBLEM},
            "404": {"description": "There is none here", "content": _PROBLEM},
            "408": {"description": "The body came too slowly", "content": _PROBLEM},
            "413": {"description": "The body is too long", "content": _PROBLEM},
            "415": {"description": "The body is no JSON by its type", "content": _PROBLEM},
        },
        **({"parameters": [_ID]} if path == GROUP else {}),
    )
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    return {**told, "requestBody": body}


def _others() -> dict[str, Any]:
    alive = {"200": {"description": "It lives", "content": {"application/json": _ANY}}}
    session = {"200": {"description": "signed_in", "content": {"application/json": _ANY}}}
    stream = {
        "200": {"description": "Snapshots", "content": {"text/event-stream": {}}},
        "503": {"description": "So many look already", "content": _PROBLEM},
    }
    return {
        "/health": {"get": _operation("Whether the app is healthy.", _READY)},
        "/health/live": {"get": {**_operation("Whether it lives.", alive), "security": []}},
        "/health/ready": {"get": _operation("What the app's own checks say.", _READY)},
        "/events": {"get": _operation("A snapshot a second, as server-sent events.", stream)},
        "/session": {
            "get": {
                **_operation("Whether who asks is signed in.", session),
                "security": [],
            },
            "post": _operation(
                "Take a cookie for the token.", {"204": {"description": "With Set-Cookie"}}
            ),
            "delete": _operation("Give it back.", {"204": {"description": "It is gone"}}),
        },
    }


def _operation(about: str, responses: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"summary": about, **more, "responses": {**responses, **_REFUSED}}


def _problem() -> dict[str, Any]:
    text = {"type": "string"}
    return {
        "type": "object",
        "properties": {
            "type": text,
            "title": text,
            "status": {"type": "integer"},
            "detail": text,
        },
    }

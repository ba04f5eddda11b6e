import inspect
import re

from acts import HTTP, METHODS, SESSIONS, Asked
from arranged import arranged
from quart import Quart, Response, request, websocket


def make():
    app = Quart("survival")
    for path, act in HTTP.items():
        rule = re.sub(r"\{(\w+)\}", r"<\1>", path)
        app.add_url_rule(rule, path.replace("/", "_"), view(act), methods=METHODS)
    for path, act in SESSIONS.items():
        app.add_websocket(path, path.replace("/", "_"), session(act))
    return app


def view(act):
    async def in_loop(**_):
        return answer(await act(asked()))

    def in_thread(**_):
        return answer(act(asked()))

    return in_loop if inspect.iscoroutinefunction(act) else in_thread


def asked():
    return Asked(request.args.get("key", ""), request.method, request.get_data)


def answer(said):
    return Response(said.body, said.status, content_type="text/plain")


def session(act):
    async def serve():
        await act(
            websocket.args.get("key", ""), websocket.accept, websocket.receive, websocket.send
        )

    return serve


app = arranged(make)

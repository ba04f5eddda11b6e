"""Makes traffic, and keeps count of it: what the page must show."""

import http.client
import threading
from collections import Counter
from dataclasses import dataclass

SCRIPT_PATH = "/%3Cscript%3Ealert('path')%3C/script%3E"
IMAGE_PATH = "/%22%3E%3Cimg%20src=x%20onerror=alert('path')%3E/%E2%80%AEtxt.exe%00%1b[31m"
HOSTILE_AGENT = "\"><script>alert('agent')</script><img src=x onerror=alert('agent')>\x85"


@dataclass(frozen=True)
class Call:
    """One kind of request, and what becomes of it."""

    path: str
    route: str
    outcome: str
    error: str | None = None


ORDER = Call("/orders/{}", "GET /orders/{order:int}", "ok")
MISSING = Call("/customers/{}", "GET /customers/{customer}", "client_error", "not_found")
UNPRICED = Call("/prices/{}", "GET /prices/{item}", "server_error", "unknown")
INVOICE = Call("/invoices/{}", "GET /invoices/{order}", "server_error", "external_service")
REVIEW = Call("/reviews/{}", "GET /reviews/{review}", "server_error", "unknown")
PAY = Call("/pay/{}", "GET /pay/{order}", "ok")
SCRIPT = Call(SCRIPT_PATH, "(unmatched)", "client_error", "not_found")
IMAGE = Call(IMAGE_PATH, "(unmatched)", "client_error", "not_found")
HELD = Call("/hold/{}", "GET /hold/{name}", "ok")

MIXED = [ORDER] * 12 + [MISSING] * 3 + [UNPRICED] * 2 + [INVOICE, REVIEW, SCRIPT, IMAGE]


class Traffic:
    """Sends requests, each on a connection of its own, so that all workers get some."""

    def __init__(self, port):
        self.port = port
        self.sent = Counter()

    def send(self, call, name, **headers):
        """One request; its status, or None if the server broke off."""
        status = self.ask(call.path.format(name), **headers)
        self.sent[call] += 1
        return status

    def mixed(self, rounds):
        for turn in range(rounds):
            for at, call in enumerate(MIXED):
                self.send(call, turn * 100 + at)

    def ask(self, path, **headers):
        """One request that is not counted."""
        connection = http.client.HTTPConnection("localhost", self.port, timeout=60)
        try:
            connection.putrequest("GET", path)
            for header, value in headers.items():
                connection.putheader(header.replace("_", "-"), value.encode("latin-1"))
            connection.endheaders()
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        return response.status

    def begin(self, call, name):
        """One request that goes on; the thread that waits for its end."""
        thread = threading.Thread(target=self.send, args=(call, name), daemon=True)
        thread.start()
        return thread

    def outcomes(self):
        return self._by(lambda call: call.outcome)

    def errors(self):
        return self._by(lambda call: call.error)

    def routes(self):
        return self._by(lambda call: call.route)

    def _by(self, what):
        counted = Counter()
        for call, number in self.sent.items():
            if what(call) is not None:
                counted[what(call)] += number
        return dict(counted)

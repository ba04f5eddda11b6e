"""A raw HTTP/2 client over cleartext with prior knowledge (RFC 9113, 3.3) that notes every event."""

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from .wire import Plain

OURS = (b"x-request-id", b"date")


class Stream:
    """What came back on one stream: its events in order, simplified, and whether it has ended."""

    def __init__(self):
        self.told = []
        self.body = bytearray()
        self.ended = False
        self.reset = False

    @property
    def headers(self):
        """The headers of the final response."""
        return dict(next(pairs for kind, pairs in self.told if kind == "response"))

    @property
    def status(self):
        return int(self.headers[b":status"])

    @property
    def request_id(self):
        return self.headers[b"x-request-id"].decode()

    def without_ours(self):
        """The events less what may differ between the bare and the wrapped app, and the body."""
        told = [
            (kind, [pair for pair in pairs if pair[0] not in OURS]) for kind, pairs in self.told
        ]
        return told, self.body, self.ended, self.reset


class H2(Plain):
    """One HTTP/2 connection with any number of streams."""

    def __init__(self, port):
        super().__init__(port)
        config = h2.config.H2Configuration(client_side=True, header_encoding=None)
        self.state = h2.connection.H2Connection(config)
        self.state.initiate_connection()
        self.streams = {}
        self.pongs = 0
        self._flush()

    def begin(self, method, path, headers=(), *, end=True):
        """Send a request's headers; its stream id."""
        stream_id = self.state.get_next_available_stream_id()
        named = [(":method", method), (":path", path), (":scheme", "http"), (":authority", "test")]
        self.streams[stream_id] = Stream()
        self.state.send_headers(stream_id, [*named, *headers], end_stream=end)
        self._flush()
        return stream_id

    def body(self, stream_id, body):
        """Send the whole body at the pace that the server allows, and end the request."""
        left = memoryview(body)
        while left:
            room = min(
                self.state.local_flow_control_window(stream_id),
                self.state.max_outbound_frame_size,
                len(left),
            )
            if room == 0:
                self._more()
                continue
            self.state.send_data(stream_id, left[:room])
            self._flush()
            left = left[room:]
        self.state.end_stream(stream_id)
        self._flush()

    def answer(self, stream_id):
        """Read until the stream is over."""
        stream = self.streams[stream_id]
        while not (stream.ended or stream.reset):
            self._more()
        return stream

    def get(self, path, *headers):
        return self.answer(self.begin("GET", path, headers))

    def ping(self):
        """Send a ping and read until it has come back: all that was sent before it is here then."""
        seen = self.pongs
        self.state.ping(b"nowhere!")
        self._flush()
        while self.pongs == seen:
            self._more()

    def abandon(self, stream_id):
        """Reset a stream, as a client does that wants no more of it."""
        self.state.reset_stream(stream_id, error_code=8)
        self._flush()

    def _flush(self):
        self.send(self.state.data_to_send())

    def _more(self):
        got = self.socket.recv(1 << 18)
        assert got, "the server closed the connection"
        for event in self.state.receive_data(got):
            self._note(event)
        self._flush()

    def _note(self, event):
        kinds = {
            h2.events.InformationalResponseReceived: "interim",
            h2.events.ResponseReceived: "response",
            h2.events.TrailersReceived: "trailers",
        }
        if type(event) in kinds:
            stream = self.streams[event.stream_id]
            stream.told.append(
                (kinds[type(event)], [(bytes(n), bytes(v)) for n, v in event.headers])
            )
        elif isinstance(event, h2.events.PushedStreamReceived):
            self.streams[event.pushed_stream_id] = Stream()
            pushed = [(bytes(n), bytes(v)) for n, v in event.headers]
            self.streams[event.parent_stream_id].told.append(("push", pushed))
        elif isinstance(event, h2.events.DataReceived):
            self.streams[event.stream_id].body += event.data
            self.state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.streams[event.stream_id].ended = True
        elif isinstance(event, h2.events.StreamReset):
            self.streams[event.stream_id].reset = True
        elif isinstance(event, h2.events.PingAckReceived):
            self.pongs += 1

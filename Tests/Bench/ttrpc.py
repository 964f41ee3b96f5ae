"""A client of ttrpc, and as much of protobuf's wire form as the benches need."""

import socket
import struct
import threading


def varint(value):
    """An integer as protobuf writes it."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def message(*fields):
    """A message of (number, value) pairs: integers, and texts or bytes; empty ones are left out."""
    out = b""
    for number, value in fields:
        if isinstance(value, str):
            value = value.encode()
        if isinstance(value, bool):
            value = int(value)
        if isinstance(value, int):
            if value:
                out += varint(number << 3) + varint(value)
        elif value:
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def fields(data):
    """The fields of a message: a list of values for each number."""
    found, at = {}, 0

    def take():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = take()
        kind = key & 7
        if kind == 0:
            value = take()
        else:
            length = {1: 8, 5: 4}.get(kind) or take()
            value = bytes(data[at:at + length])
            at += length
        found.setdefault(key >> 3, []).append(value)
    return found


class Failed(Exception):
    """A call was answered with an error."""


class Client:
    """One connection; one call at a time."""

    def __init__(self, connection):
        self.connection = connection
        self.stream = -1

    @classmethod
    def unix(cls, path):
        """Connects to a Unix socket."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(path)
        return cls(connection)

    def receive(self, count):
        """Exactly so many bytes."""
        data = b""
        while len(data) < count:
            part = self.connection.recv(count - len(data))
            if not part:
                raise Failed("the connection has ended")
            data += part
        return data

    def call(self, service, method, payload=b"", seconds=60):
        """Sends a request and waits for its answer's fields."""
        self.stream += 2
        body = message((1, service), (2, method), (3, payload), (4, seconds * 10**9))
        self.connection.settimeout(seconds)
        self.connection.sendall(struct.pack(">IIBB", len(body), self.stream, 1, 0) + body)
        length, _, _, _ = struct.unpack(">IIBB", self.receive(10))
        answer = fields(self.receive(length))
        if 1 in answer:
            status = fields(answer[1][0])
            if status.get(1, [0])[0]:
                raise Failed(f"{method}: {status.get(2, [b''])[0].decode()}")
        return fields(answer.get(2, [b""])[0])


def serve_nothing(path):
    """Listens where containerd would and answers every request with an empty message."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def answer(connection):
        client = Client(connection)
        try:
            while True:
                length, stream, _, _ = struct.unpack(">IIBB", client.receive(10))
                client.receive(length)
                connection.sendall(struct.pack(">IIBB", 0, stream, 2, 0))
        except (Failed, OSError):
            connection.close()

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener

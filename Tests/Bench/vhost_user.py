"""A vsock device for a plain QEMU: a vhost-user back end with just enough in it for one stream.

This machine's kernel may have no /dev/vhost-vsock, and the peer of a bench should not run on our
own device. It takes the guest's first connection and copies bytes; no credit is counted, as what
a bench says fits the buffers that both sides tell.
"""

import mmap
import os
import select
import socket
import struct
import threading

GET_FEATURES, SET_FEATURES, SET_MEM_TABLE = 1, 2, 5
SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, GET_VRING_BASE = 8, 9, 10, 11
SET_VRING_KICK, SET_VRING_CALL = 12, 13
GET_PROTOCOL_FEATURES, GET_QUEUE_NUM, GET_CONFIG = 15, 17, 24
REPLY, NEED_REPLY = 0x5, 0x8
VERSION_1, PROTOCOL_FEATURES = 1 << 32, 1 << 30
REPLY_ACK, CONFIG = 1 << 3, 1 << 9
REQUEST, RESPONSE, SHUTDOWN, RW = 1, 2, 4, 5
HOST, GUEST = 2, 3
HEADER = struct.Struct("<QQIIIHHIII")
BUFFER = 256 << 10
RECEIVE, TRANSMIT = 0, 1


class Memory:
    """The guest's memory, as the front end describes it."""

    def __init__(self, payload, files):
        count = struct.unpack_from("<I", payload)[0]
        self.parts = []
        for number, file in enumerate(files[:count]):
            guest, size, user, offset = struct.unpack_from("<QQQQ", payload, 8 + 32 * number)
            self.parts.append((guest, size, user, offset, mmap.mmap(file, size + offset)))
            os.close(file)

    def at(self, address, user=False):
        """The mapping that holds an address, and where in it."""
        for guest, size, front, offset, mapping in self.parts:
            start = front if user else guest
            if start <= address < start + size:
                return mapping, address - start + offset
        raise ValueError(f"address {address:#x}")


class Ring:
    """A split virtqueue."""

    def __init__(self):
        self.size = self.taken = self.used = 0
        self.places = ()
        self.kick = self.call = None

    def chains(self, memory):
        """Every chain that the driver has offered: its head, and (mapping, start, length)."""
        table, _, available = (memory.at(place, user=True) for place in self.places)
        while self.taken != struct.unpack_from("<H", available[0], available[1] + 2)[0]:
            place = available[1] + 4 + 2 * (self.taken % self.size)
            head = index = struct.unpack_from("<H", available[0], place)[0]
            self.taken = self.taken + 1 & 0xffff
            parts = []
            while True:
                address, length, flags, after = struct.unpack_from(
                    "<QIHH", table[0], table[1] + 16 * index)
                parts.append((*memory.at(address), length))
                if not flags & 1:
                    break
                index = after
            yield head, parts

    def put(self, memory, head, length):
        """Gives a chain back and tells the driver."""
        mapping, start = memory.at(self.places[1], user=True)
        struct.pack_into("<II", mapping, start + 4 + 8 * (self.used % self.size), head, length)
        self.used = self.used + 1 & 0xffff
        struct.pack_into("<H", mapping, start + 2, self.used)
        os.write(self.call, struct.pack("<Q", 1))


class VsockBackend(threading.Thread):
    """Serves one front end; `stream` is the guest's first connection, once there is one."""

    def __init__(self, listener):
        super().__init__(daemon=True)
        self.listener = listener
        self.stream, self.inner = socket.socketpair()
        self.dialled = threading.Event()
        self.rings = [Ring(), Ring()]
        self.memory = self.ports = None
        self.free = []
        self.sent = 0

    def run(self):
        connection = self.listener.accept()[0]
        while True:
            waiting = [connection] + [ring.kick for ring in self.rings if ring.kick is not None]
            if self.ports and self.free:
                waiting.append(self.inner)
            for ready in select.select(waiting, [], [])[0]:
                if ready is connection:
                    if not self.take(connection):
                        return
                elif ready is self.inner:
                    if not (data := self.inner.recv(4096 - HEADER.size)):
                        return
                    self.send(RW, data)
                else:
                    os.read(ready, 8)
                    self.work()

    def take(self, connection):
        """Answers a message; false at the end."""
        header, files, _, _ = socket.recv_fds(connection, 12, 8)
        if len(header) < 12:
            return False
        request, flags, size = struct.unpack("<III", header)
        payload = connection.recv(size, socket.MSG_WAITALL) if size else b""
        answer = None
        if request == GET_FEATURES:
            answer = struct.pack("<Q", VERSION_1 | PROTOCOL_FEATURES)
        elif request == GET_PROTOCOL_FEATURES:
            answer = struct.pack("<Q", REPLY_ACK | CONFIG)
        elif request == GET_QUEUE_NUM:
            answer = struct.pack("<Q", 2)
        elif request == GET_CONFIG:
            answer = payload[:12] + struct.pack("<Q", GUEST)[:len(payload) - 12]
        elif request == SET_MEM_TABLE:
            self.memory = Memory(payload, files)
        else:
            answer = self.change_ring(request, payload, files)
        if answer is None and flags & NEED_REPLY:
            answer = struct.pack("<Q", 0)
        if answer is not None:
            connection.sendall(struct.pack("<III", request, REPLY, len(answer)) + answer)
        return True

    def change_ring(self, request, payload, files):
        """What concerns one ring; others change nothing here."""
        if len(payload) < 8 or request not in range(SET_VRING_NUM, SET_VRING_CALL + 1):
            return None
        index, number = struct.unpack_from("<II", payload)
        ring = self.rings[index & 0xff]
        if request == SET_VRING_NUM:
            ring.size = number
        elif request == SET_VRING_BASE:
            ring.taken = ring.used = number
        elif request == SET_VRING_ADDR:
            ring.places = struct.unpack_from("<QQQ", payload, 8)
        elif request == SET_VRING_KICK:
            ring.kick = files[0]
        elif request == SET_VRING_CALL:
            ring.call = files[0]
        elif request == GET_VRING_BASE:
            ring.kick = None
            return struct.pack("<II", index, ring.taken)
        return None

    def work(self):
        """Takes what the guest offers."""
        if any(ring.kick is None for ring in self.rings):
            return
        self.free += self.rings[RECEIVE].chains(self.memory)
        for head, parts in self.rings[TRANSMIT].chains(self.memory):
            data = b"".join(mapping[start:start + length] for mapping, start, length in parts)
            self.rings[TRANSMIT].put(self.memory, head, 0)
            fields = HEADER.unpack_from(data)
            operation, length = fields[6], fields[4]
            if operation == REQUEST and not self.ports:
                self.ports = fields[3], fields[2]
                self.send(RESPONSE)
                self.dialled.set()
            elif operation == RW:
                self.sent += length
                self.inner.sendall(data[HEADER.size:HEADER.size + length])
            elif operation == SHUTDOWN:
                self.inner.shutdown(socket.SHUT_WR)

    def send(self, operation, data=b""):
        """Gives the guest a packet."""
        packet = HEADER.pack(HOST, GUEST, *self.ports, len(data), 1, operation, 0, BUFFER,
                             self.sent) + data
        head, parts = self.free.pop(0)
        for mapping, start, length in parts:
            mapping[start:start + len(packet[:length])] = packet[:length]
            packet = packet[length:]
        self.rings[RECEIVE].put(self.memory, head, HEADER.size + len(data))

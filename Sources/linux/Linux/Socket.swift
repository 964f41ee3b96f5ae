internal import CLinux

/// A connected or listening Unix socket (unix(7)); close-on-exec, SIGPIPE never raised.
public struct UnixSocket: ~Copyable, Sendable {
    /// Kind of socket.
    public enum Kind: Sendable { case stream, seqpacket }

    /// Credentials of a peer (SO_PEERCRED).
    public struct Peer: Sendable, Equatable {
        public let pid: Int32
        public let uid: UInt32
        public let gid: UInt32
    }

    public let descriptor: Descriptor

    /// Takes over a socket from elsewhere.
    public init(owning descriptor: consuming Descriptor) {
        self.descriptor = descriptor
    }

    /// Gives up the socket as a plain descriptor.
    public consuming func intoDescriptor() -> Descriptor { descriptor }

    private static func type(_ kind: Kind) -> Int32 {
        Int32(kind == .stream ? SOCK_STREAM.rawValue : SOCK_SEQPACKET.rawValue)
    }

    /// Binds to a path and listens.
    ///
    /// EADDRINUSE if the path exists; ENAMETOOLONG past 107 bytes. A
    /// leading NUL names an abstract socket.
    public static func listen(
        _ path: String, kind: Kind = .stream, backlog: Int32 = 128
    ) throws(Errno) -> UnixSocket {
        let socket = Descriptor(owning: try Errno.check32(linux_socket(AF_UNIX, type(kind))))
        let number = socket.number
        let bytes = Array(path.utf8)
        // SAFETY: path bytes and their count.
        try unsafe bytes.span.bytes.withUnsafeBytes { (raw) throws(Errno) in
            let text = unsafe raw.bindMemory(to: CChar.self)
            try Errno.check(unsafe linux_unix_bind(number, text.baseAddress, raw.count))
        }
        try Errno.check(linux_listen(number, backlog))
        return UnixSocket(owning: socket)
    }

    /// Connects to a path.
    ///
    /// ECONNREFUSED when nobody listens, ENOENT when it is not there.
    public static func connect(
        _ path: String, kind: Kind = .stream
    ) throws(Errno) -> UnixSocket {
        let socket = Descriptor(owning: try Errno.check32(linux_socket(AF_UNIX, type(kind))))
        let number = socket.number
        let bytes = Array(path.utf8)
        // SAFETY: path bytes and their count.
        try unsafe bytes.span.bytes.withUnsafeBytes { (raw) throws(Errno) in
            let text = unsafe raw.bindMemory(to: CChar.self)
            try Errno.retrying { unsafe linux_unix_connect(number, text.baseAddress, raw.count) }
        }
        return UnixSocket(owning: socket)
    }

    /// Two connected sockets (socketpair(2)).
    public static func pair(kind: Kind = .stream) throws(Errno) -> UnixSocketPair {
        var a: Int32 = -1
        var b: Int32 = -1
        // SAFETY: both results live for the call.
        try Errno.check(unsafe linux_socketpair(type(kind), &a, &b))
        return UnixSocketPair(
            first: UnixSocket(owning: Descriptor(owning: a)),
            second: UnixSocket(owning: Descriptor(owning: b)))
    }

    /// Accepts a connection (accept4(2)); EAGAIN when the listener is non-blocking and none waits.
    public borrowing func accept(nonblocking: Bool = false) throws(Errno) -> UnixSocket {
        let flags = nonblocking ? Int32(SOCK_NONBLOCK.rawValue) : 0
        let number = descriptor.number
        return UnixSocket(
            owning: Descriptor(
                owning: Int32(try Errno.retrying { linux_accept(number, flags) })))
    }

    /// Accepts a connection of a listener that is held elsewhere, non-blocking; EAGAIN when none
    /// waits.
    package static func accept(on listener: borrowing Descriptor) throws(Errno) -> Descriptor {
        let number = listener.number
        return Descriptor(
            owning: Int32(
                try Errno.retrying { linux_accept(number, Int32(SOCK_NONBLOCK.rawValue)) }))
    }

    /// Who is at the other end.
    public borrowing func peer() throws(Errno) -> Peer {
        var out = linux_peer()
        // SAFETY: the result lives for the call.
        try Errno.check(unsafe linux_peer_credentials(descriptor.number, &out))
        return Peer(pid: out.pid, uid: out.uid, gid: out.gid)
    }

    /// Half or whole close (shutdown(2)).
    public borrowing func shutdown(reading: Bool, writing: Bool) throws(Errno) {
        guard reading || writing else { return }
        let how = reading && writing ? 2 : writing ? 1 : 0
        try Errno.check(linux_shutdown(descriptor.number, Int32(how)))
    }

    /// Sends bytes with descriptors attached (SCM_RIGHTS, at most 64).
    ///
    /// On a seqpacket socket one
    /// message. Returns how many bytes were taken. EAGAIN if it would block and is non-blocking.
    @discardableResult
    public borrowing func send(
        _ bytes: [UInt8], descriptors: [Int32] = []
    ) throws(Errno) -> Int {
        let number = descriptor.number
        // SAFETY: both arrays live for the call, with their own counts.
        return try unsafe bytes.span.bytes.withUnsafeBytes { (raw) throws(Errno) in
            try unsafe descriptors.span.withUnsafeBufferPointer { (fds) throws(Errno) in
                try Errno.retrying {
                    unsafe linux_send_fds(
                        number, raw.baseAddress, raw.count, fds.baseAddress, fds.count, 0)
                }
            }
        }
    }

    /// Receives up to `limit` bytes and the descriptors that came with them; no bytes: the peer has
    /// closed.
    ///
    /// EMSGSIZE when the message or its descriptors did not fit (all are then closed).
    public borrowing func receive(limit: Int) throws(Errno) -> Received {
        var bytes = [UInt8](repeating: 0, count: limit)
        var numbers = [Int32](repeating: -1, count: Int(LINUX_MAX_PASSED_FDS))
        var count = numbers.count
        let number = descriptor.number
        // SAFETY: both arrays live for the call, with their own counts.
        var byteSpan = bytes.mutableSpan
        var numberSpan = numbers.mutableSpan
        let got = try unsafe byteSpan.withUnsafeMutableBytes { (raw) throws(Errno) in
            try unsafe numberSpan.withUnsafeMutableBufferPointer { (fds) throws(Errno) in
                try Errno.retrying {
                    count = fds.count
                    return unsafe linux_recv_fds(
                        number, raw.baseAddress, raw.count, fds.baseAddress, &count, 0)
                }
            }
        }
        bytes.removeLast(bytes.count - got)
        return Received(bytes: bytes, numbers: Array(numbers.prefix(count)))
    }

    /// What `receive` got.
    public struct Received: ~Copyable {
        public let bytes: [UInt8]
        private var numbers: [Int32]

        fileprivate init(bytes: [UInt8], numbers: [Int32]) {
            self.bytes = bytes
            self.numbers = numbers
        }

        deinit {
            for number in numbers { _ = linux_close(number) }
        }

        /// How many descriptors are left to take.
        public var descriptorCount: Int { numbers.count }

        /// Takes the first descriptor left; those never taken are closed.
        public mutating func takeDescriptor() -> Descriptor? {
            numbers.isEmpty ? nil : Descriptor(owning: numbers.removeFirst())
        }
    }
}

/// Two connected sockets.
public struct UnixSocketPair: ~Copyable {
    public var first: UnixSocket
    public var second: UnixSocket

    /// Takes them apart.
    public consuming func split<R: ~Copyable>(
        _ body: (consuming UnixSocket, consuming UnixSocket) -> R
    ) -> R {
        body(first, second)
    }

    /// Keeps the first and closes the second.
    public consuming func intoFirst() -> Descriptor { first.intoDescriptor() }
}

extension Descriptor {
    /// send(2) with MSG_NOSIGNAL: like `write` on a socket, but EPIPE raises no signal.
    public borrowing func send(_ buffer: RawSpan) throws(Errno) -> Int {
        // SAFETY: the call reads at most `count` bytes of the span's own storage.
        unsafe try buffer.withUnsafeBytes { (bytes) throws(Errno) in
            try Errno.retrying { unsafe linux_send(number, bytes.baseAddress, bytes.count, 0) }
        }
    }

    /// The same for an array.
    public borrowing func send(_ bytes: [UInt8]) throws(Errno) -> Int {
        // SAFETY: bytes of any value are bytes.
        try send(unsafe bytes.span.bytes)
    }

    /// Half or whole close of a connected socket (shutdown(2)).
    public borrowing func shutdown(reading: Bool, writing: Bool) throws(Errno) {
        guard reading || writing else { return }
        try Errno.check(linux_shutdown(number, reading && writing ? 2 : writing ? 1 : 0))
    }

    /// send(2) with MSG_NOSIGNAL of the bytes of an array from `start` on.
    public borrowing func send(_ bytes: borrowing [UInt8], from start: Int) throws(Errno) -> Int {
        // SAFETY: bytes of any value are bytes.
        try send(unsafe bytes.span.bytes.extracting(droppingFirst: start))
    }

    /// Looks at the first bytes that wait in a socket without taking them (recv(2), MSG_PEEK |
    /// MSG_DONTWAIT); 0 at the end.
    public borrowing func peek(into buffer: inout InlineArray<32, UInt8>) throws(Errno) -> Int {
        try receive(into: &buffer, limit: 32, flags: Int32(MSG_PEEK))
    }

    /// Takes at most 32 bytes out of a socket (recv(2), MSG_DONTWAIT) and forgets them.
    public borrowing func discard(_ count: Int) throws(Errno) -> Int {
        var buffer = InlineArray<32, UInt8>(repeating: 0)
        return try receive(into: &buffer, limit: count, flags: 0)
    }

    private borrowing func receive(
        into buffer: inout InlineArray<32, UInt8>, limit: Int, flags: Int32
    ) throws(Errno) -> Int {
        let flags = flags | Int32(MSG_DONTWAIT)
        let limit = min(limit, 32)
        let number = number
        var span = buffer.mutableSpan
        // SAFETY: at most the 32 bytes of the buffer.
        return try unsafe span.withUnsafeMutableBufferPointer { (bytes) throws(Errno) in
            try Errno.retrying { unsafe linux_recv(number, bytes.baseAddress, limit, flags) }
        }
    }

    /// Waits for events of poll(2); false after `timeout` ms (-1: for ever) or a signal.
    public borrowing func wait(_ events: Epoll.Events, timeout: Int32) throws(Errno) -> Bool {
        let result = linux_poll_one(number, Int16(events.rawValue & 0x3f), timeout)
        if result == -Int64(EINTR) { return false }
        return try Errno.check(result) != 0
    }
}

/// A vsock(7) stream socket; close-on-exec.
public enum VsockSocket {
    public static let hostCID: UInt32 = 2
    public static let anyCID: UInt32 = .max

    /// Listens on a port of every CID of this machine; non-blocking.
    public static func listen(port: UInt32, backlog: Int32 = 128) throws(Errno) -> Descriptor {
        let socket = Descriptor(
            owning: try Errno.check32(
                linux_socket(AF_VSOCK, Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue))))
        try Errno.check(linux_vsock_bind(socket.number, anyCID, port))
        try Errno.check(linux_listen(socket.number, backlog))
        return socket
    }

    /// Connects, blocking.
    public static func connect(cid: UInt32, port: UInt32) throws(Errno) -> Descriptor {
        let socket = Descriptor(
            owning: try Errno.check32(linux_socket(AF_VSOCK, Int32(SOCK_STREAM.rawValue))))
        let number = socket.number
        try Errno.retrying { linux_vsock_connect(number, cid, port) }
        return socket
    }

    /// Accepts a connection, non-blocking, from a peer whose CID is `cid`; others are closed and
    /// nil is returned.
    ///
    /// EAGAIN when none waits.
    public static func accept(
        _ listener: borrowing Descriptor, from cid: UInt32
    ) throws(Errno) -> Descriptor? {
        var peer: UInt32 = 0
        // SAFETY: the result lives for the call.
        let number = try Errno.check32(
            unsafe linux_vsock_accept(listener.number, Int32(SOCK_NONBLOCK.rawValue), &peer))
        let connection = Descriptor(owning: number)
        if peer != cid { return nil }
        return connection
    }
}

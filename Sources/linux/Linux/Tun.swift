internal import CLinux

/// A tap device (tun(4), kernel document networking/tuntap): Ethernet frames, each behind a
/// virtio-net header of 12 bytes (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR).
public struct Tap: ~Copyable, Sendable {
    public let descriptor: Descriptor

    /// Takes over a tap that was opened elsewhere.
    public init(owning descriptor: consuming Descriptor) {
        self.descriptor = descriptor
    }

    /// Attaches to a tap, making it if it is not there; an empty name lets the kernel choose one.
    ///
    /// It goes away with the last descriptor unless it was made persistent. EPERM without
    /// CAP_NET_ADMIN, EBUSY if something else is attached.
    public static func open(_ name: String = "") throws(Errno) -> Tap {
        let file = try File.open("/dev/net/tun", [.readWrite, .nonblocking])
        // SAFETY: the C string lives for the call.
        try Errno.check(unsafe linux_tap_attach(file.number, name, 12))
        return Tap(owning: file)
    }

    /// The interface's name.
    public borrowing func name() throws(Errno) -> String {
        var bytes = InlineArray<16, CChar>(repeating: 0)
        let number = descriptor.number
        var span = bytes.mutableSpan
        // SAFETY: 16 bytes, which the call fills and ends with NUL.
        return try unsafe span.withUnsafeMutableBufferPointer { (buffer) throws(Errno) in
            guard let start = buffer.baseAddress else { throw .einval }
            try Errno.check(unsafe linux_tap_name(number, start))
            return unsafe String(cString: start)
        }
    }

    /// Says what the reader of the tap takes upon itself: TUN_F_… bits (TUNSETOFFLOAD).
    public borrowing func setOffloads(_ flags: UInt32) throws(Errno) {
        try Errno.check(linux_tap_offloads(descriptor.number, flags))
    }

    /// Sets the bytes of the header in front of each frame (TUNSETVNETHDRSZ).
    public borrowing func setHeaderSize(_ bytes: Int32) throws(Errno) {
        try Errno.check(linux_tap_header_size(descriptor.number, bytes))
    }
}

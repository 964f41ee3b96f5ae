internal import CLinux

/// A network interface of the calling thread's network namespace (netdevice(7)).
public enum NetworkInterface {
    /// Its index; ENODEV when there is none of that name.
    public static func index(_ name: String) throws(Errno) -> Int32 {
        // SAFETY: the C string lives for the call.
        try Errno.check32(unsafe linux_interface_index(name))
    }

    /// Brings it up, with an MTU unless that is 0.
    public static func bringUp(_ name: String, mtu: Int32 = 0) throws(Errno) {
        // SAFETY: the C string lives for the call.
        try Errno.check(unsafe linux_interface_up(name, mtu))
    }
}

/// A packet(7) socket.
public enum PacketSocket {
    /// Opens a non-blocking one for every frame that enters or leaves an interface.
    ///
    /// With `header`,
    /// each is behind a virtio-net header of 10 bytes (PACKET_VNET_HDR).
    public static func open(interface: Int32, header: Bool = false) throws(Errno) -> Descriptor {
        Descriptor(owning: try Errno.check32(linux_packet_open(interface, header ? 1 : 0)))
    }
}

internal import ContainerdAPI
internal import Linux
internal import SwiftProtobuf

/// `delete`: removes what is left of a container whose server may be gone; quick, and harmless when
/// there is nothing.
struct DeleteAction {
    let arguments: LaunchArguments
    /// Undoes what a dead server's ledger in the bundle tells of; the pid of the container's
    /// process if it is known, else 0.
    let undoLeftovers: (_ bundle: String, _ id: String) throws(ShimError) -> UInt32

    /// The answer's bytes.
    func run() throws(ShimError) -> [UInt8] {
        let bundle = arguments.bundle
        var response = Containerd_Task_V2_DeleteResponse()
        response.exitStatus = 137
        let now = Clock.realtime
        response.exitedAt.seconds = now / 1_000_000_000
        response.exitedAt.nanos = Int32(now % 1_000_000_000)
        let socket = self.socket()
        // A living server knows its containers better, and other ones may depend on it; one that
        // has none, for its `start` or its Create failed, is to end.
        if let socket, socket.isServed {
            socket.askToEnd()
        } else {
            response.pid = try undoLeftovers(bundle, arguments.id)
            socket?.removeIfDead()
            try DeleteAction.unmount(below: "\(bundle)/rootfs")
        }
        do {
            return try response.serializedBytes()
        } catch {
            throw ShimError("the answer cannot be encoded")
        }
    }

    /// The group's socket, as `start` noted it in the bundle.
    private func socket() -> ShimSocket? {
        guard let bytes = try? File.read("\(arguments.bundle)/address", limit: 256) else {
            return nil
        }
        return try? ShimSocket(address: String(decoding: bytes, as: UTF8.self))
    }

    /// Detaches every mount at or below a path, the newest first.
    static func unmount(below path: String) throws(ShimError) {
        let table = try attempt("/proc/self/mountinfo") { () throws(Errno) in
            try File.read("/proc/self/mountinfo", limit: 64 << 20)
        }
        for point in mountPoints(table).reversed() {
            guard point == path || point.hasPrefix("\(path)/") else { continue }
            do throws(Errno) {
                try Mount.unmount(point, lazily: true)
            } catch .einval, .enoent {
                // Gone meanwhile, with a mount above it.
            } catch {
                throw ShimError("unmount \(point)", error)
            }
        }
    }

    /// The mount points of proc(5)'s mountinfo, oldest first: the fifth word of each line, with
    /// blanks, tabs, newlines and backslashes written as three octal digits.
    static func mountPoints(_ table: [UInt8]) -> [String] {
        table.split(separator: 0x0a).compactMap { line in
            let words = line.split(separator: 0x20, maxSplits: 5)
            guard words.count > 4 else { return nil }
            var out: [UInt8] = []
            var rest = words[4]
            while let byte = rest.popFirst() {
                let digits = rest.prefix(3)
                if byte == UInt8(ascii: "\\"), digits.count == 3,
                    let value = UInt8(String(decoding: digits, as: UTF8.self), radix: 8)
                {
                    out.append(value)
                    rest = rest.dropFirst(3)
                } else {
                    out.append(byte)
                }
            }
            return String(decoding: out, as: UTF8.self)
        }
    }
}

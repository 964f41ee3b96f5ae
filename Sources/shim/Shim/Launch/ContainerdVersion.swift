internal import ContainerdAPI
internal import Linux

/// How the answer of `start` is written, for the containerd that asked.
package enum StartAnswer: Sendable, Equatable {
    /// The address alone: all that containerd 1.6 takes, and good for every other.
    case address
    /// JSON with a version of the task API: 2 for 1.7, 3 for 2.0 and later.
    case json(Int)

    /// The answer's bytes; nothing may stand before or after them.
    package func text(_ address: String) -> String {
        switch self {
        case .address: address
        case .json(let version):
            #"{"version":\#(version),"address":"\#(address)","protocol":"ttrpc"}"#
        }
    }

    /// Decides by what containerd tells of itself.
    ///
    /// `MAX_SHIM_VERSION` is set since 1.7 and is 2 in all of 2.x as well, so only the version
    /// tells 1.7, which refuses a 3, from 2.x. Not knowing it, 2 is right for both.
    package static func choose(
        bootstrapVersion: String?, maxShimVersion: String?, askVersion: () -> String?
    ) -> StartAnswer {
        if bootstrapVersion != nil { return .json(3) }
        guard let maxShimVersion, !maxShimVersion.isEmpty else { return .address }
        guard let text = askVersion(), let version = ContainerdVersion(parsing: text) else {
            return .json(2)
        }
        if version.major >= 2 { return .json(3) }
        return version.major == 1 && version.minor >= 7 ? .json(2) : .address
    }
}

/// A version of containerd.
package struct ContainerdVersion: Sendable, Equatable {
    package let major: Int
    package let minor: Int

    /// Finds it in the output of `containerd -v`: the first word that begins, after an optional v,
    /// with two numbers and a dot between.
    package init?(parsing text: String) {
        for word in text.split(whereSeparator: { $0.isWhitespace }) {
            let bare = word.hasPrefix("v") ? word.dropFirst() : word
            let parts = bare.split(separator: ".", maxSplits: 2)
            guard parts.count >= 2, let major = Int(parts[0]),
                let minor = Int(parts[1].prefix { $0.isNumber })
            else { continue }
            self.major = major
            self.minor = minor
            return
        }
        return nil
    }

    /// Runs `BINARY -v` for at most two seconds; nil when it fails or says nothing.
    static func ask(_ binary: String) -> String? {
        guard binary.hasPrefix("/"), let pipe = try? File.pipe(nonblocking: true) else {
            return nil
        }
        var spawn = Spawn(binary, ["-v"], environment: ["LC_ALL=C"])
        spawn.diesWithParent = true
        spawn.descriptors = [nil, pipe.writer.number, nil]
        guard let pid = try? spawn.start() else { return nil }
        var text: String?
        pipe.split { reader, writer in
            _ = consume writer
            text = ContainerdVersion.collect(reader, until: Clock.monotonic + 2_000_000_000)
        }
        if text == nil { _ = try? Process.kill(pid, Signal.kill) }
        let exit = try? Process.reap(pid, blocking: true)
        return exit?.status == 0 ? text : nil
    }

    /// Reads to the end, at most 4 KiB; nil when the time is over.
    private static func collect(_ reader: borrowing Descriptor, until deadline: Int64) -> String? {
        var all: [UInt8] = []
        while all.count < 4096 {
            let left = deadline - Clock.monotonic
            guard left > 0 else { return nil }
            guard let ready = try? reader.wait(.readable, timeout: Int32(left / 1_000_000 + 1))
            else { return nil }
            guard ready else { continue }
            guard let part = try? reader.read(upTo: 4096) else { return nil }
            if part.isEmpty { break }
            all += part
        }
        return String(decoding: all, as: UTF8.self)
    }
}

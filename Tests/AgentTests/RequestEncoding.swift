@testable import TTRPC

/// Requests in protobuf form, written field by field after agent.proto, so that the agent's
/// protobuf-c meets bytes that it has not made itself.
struct Encoded {
    private var writer = ProtobufWriter()

    init(_ build: (inout Encoded) -> Void = { _ in }) { build(&self) }

    var bytes: [UInt8] { writer.bytes }

    mutating func text(_ field: UInt64, _ value: String) { writer.put(field, value) }
    mutating func number(_ field: UInt64, _ value: UInt64) { writer.put(field, value) }
    mutating func message(_ field: UInt64, _ inner: Encoded) {
        writer.put(field, inner.bytes, always: true)
    }
}

/// A process: args, env, cwd, terminal, user.
func encodedProcess(
    _ arguments: [String], user: String = "", terminal: Bool = false, cwd: String = "/",
    cwdMustExist: Bool = false
) -> Encoded {
    Encoded {
        for argument in arguments { $0.text(1, argument) }
        $0.text(2, "PATH=/bin")
        $0.text(3, cwd)
        $0.number(4, terminal ? 1 : 0)
        if terminal {
            $0.number(5, 80)
            $0.number(6, 25)
        }
        $0.message(7, Encoded { $0.text(6, user) })
        $0.number(10, 1)
        $0.number(14, cwdMustExist ? 1 : 0)
    }
}

/// A mount of a container.
func encodedMount(_ destination: String, _ type: String, _ options: [String] = []) -> Encoded {
    Encoded {
        $0.text(1, destination)
        $0.text(2, type)
        $0.text(3, type)
        for option in options { $0.text(4, option) }
    }
}

/// Tokens of stdin, stdout, stderr.
func encodedStreams(_ input: UInt64, _ output: UInt64, _ error: UInt64) -> Encoded {
    Encoded {
        $0.number(1, input)
        $0.number(2, output)
        $0.number(3, error)
    }
}

/// The container and, of an exec, the process.
func encodedName(_ container: String, _ exec: String = "") -> Encoded {
    Encoded {
        $0.text(1, container)
        $0.text(2, exec)
    }
}

/// The number in a field of an answer; 0 if it is not there.
func number(_ field: UInt64, of bytes: [UInt8]) throws -> UInt64 {
    var reader = ProtobufReader(bytes[...])
    while let (found, value) = try reader.next() {
        if found == field, case .varint(let number) = value { return number }
    }
    return 0
}

/// The text in a field of an answer.
func text(_ field: UInt64, of bytes: [UInt8]) throws -> String {
    var reader = ProtobufReader(bytes[...])
    while let (found, value) = try reader.next() {
        if found == field, case .bytes(let range) = value { return try reader.text(range) }
    }
    return ""
}

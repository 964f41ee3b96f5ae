internal import Linux

/// A descriptor with several users; closed when the last lets go.
final class SharedDescriptor: Sendable {
    let descriptor: Descriptor

    init(_ descriptor: consuming Descriptor) { self.descriptor = descriptor }
}

/// A pipe whose ends have several users.
struct SharedPipe: Sendable {
    let reader: SharedDescriptor
    let writer: SharedDescriptor

    init(_ pipe: consuming PipeEnds) {
        var ends: (reader: SharedDescriptor, writer: SharedDescriptor)?
        pipe.split { ends = (SharedDescriptor($0), SharedDescriptor($1)) }
        guard let ends else { preconditionFailure("a pipe has two ends") }
        (reader, writer) = ends
    }
}

/// Two connected sockets whose ends have several users.
struct SharedSocketPair: Sendable {
    let first: SharedDescriptor
    let second: SharedDescriptor

    init(_ pair: consuming UnixSocketPair) {
        (first, second) = pair.split {
            (
                SharedDescriptor($0.intoDescriptor()), SharedDescriptor($1.intoDescriptor())
            )
        }
    }
}

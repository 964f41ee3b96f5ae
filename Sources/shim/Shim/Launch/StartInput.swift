package import ContainerdAPI
internal import Linux
package import SwiftProtobuf

/// What containerd writes to the standard input of `start`.
package struct StartInput: Sendable, Equatable {
    /// Set since containerd 2.3.
    package var bootstrap: Containerd_Runtime_Bootstrap_V1_BootstrapParams?
    /// The runtime's options, if there are any.
    package var options: Google_Protobuf_Any?

    /// Most bytes that are read.
    package static let limit = 10 << 20

    /// Tells `BootstrapParams` from a bare `Any` by the identity in them: each can be read as the
    /// other, so that parsing alone decides nothing.
    package init(_ bytes: [UInt8], id: String, namespace: String) throws(ShimError) {
        guard !bytes.isEmpty else { return }
        if let parameters = try? Containerd_Runtime_Bootstrap_V1_BootstrapParams(
            serializedBytes: bytes), parameters.instanceID == id, parameters.namespace == namespace
        {
            bootstrap = parameters
            options = parameters.extensions.first { $0.hasValue }?.value
            return
        }
        guard let any = try? Google_Protobuf_Any(serializedBytes: bytes) else {
            throw ShimError("standard input of start is neither options nor bootstrap parameters")
        }
        options = any
    }
}

extension Google_Protobuf_Any {
    /// The name of the message in it, without the prefix of its URL; the
    /// names of JSON types (`types.containerd.io/…`) are kept whole.
    package var messageName: Substring {
        if typeURL.hasPrefix("types.containerd.io/") { return typeURL[...] }
        return typeURL.split(separator: "/").last ?? ""
    }

    /// The message in it, if it is one of that type; nil when it is another or cannot be read.
    package func message<M: Message>(_ type: M.Type) -> M? {
        guard messageName == M.protoMessageName else { return nil }
        return try? M(serializedBytes: value)
    }

    /// Packs a message with its bare name as URL: containerd compares them exactly.
    package init(packing message: some Message) throws(ShimError) {
        self.init()
        typeURL = type(of: message).protoMessageName
        do {
            value = try message.serializedData()
        } catch {
            throw ShimError("\(typeURL) cannot be encoded")
        }
    }
}

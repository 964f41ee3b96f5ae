internal import Linux
internal import VMControl

/// The descriptors that came with a configuration, each to be taken once.
struct FileSet: ~Copyable {
    /// -1: taken.
    private var numbers: [Int32] = []

    /// Takes what a message brought.
    init(_ message: inout UnixSocket.Received) {
        while let descriptor = message.takeDescriptor() { numbers.append(descriptor.release()) }
    }

    deinit {
        for number in numbers where number >= 0 { _ = Descriptor(owning: number) }
    }

    /// The descriptor of that index.
    mutating func take(_ index: FileIndex) throws(ControlError) -> Descriptor {
        let index = Int(index.rawValue)
        guard index < numbers.count, numbers[index] >= 0 else {
            throw .missingDescriptor(UInt8(index))
        }
        defer { numbers[index] = -1 }
        return Descriptor(owning: numbers[index])
    }
}

package import Linux

/// The descriptors that came with a configuration, each to be taken once.
package struct FileSet: ~Copyable {
    /// -1: taken.
    private var numbers: [Int32] = []

    /// Takes what a message brought.
    package init(_ message: inout UnixSocket.Received) {
        while let descriptor = message.takeDescriptor() { numbers.append(descriptor.release()) }
    }

    deinit {
        for number in numbers where number >= 0 { _ = Descriptor(owning: number) }
    }

    /// The descriptor of that index.
    package mutating func take(_ index: FileIndex) throws(ControlError) -> Descriptor {
        let index = Int(index.rawValue)
        guard index < numbers.count, numbers[index] >= 0 else {
            throw .missingDescriptor(UInt8(index))
        }
        defer { numbers[index] = -1 }
        return Descriptor(owning: numbers[index])
    }

    /// The descriptor's number, to look at what it is; -1 for one that did not come or was taken.
    package func number(of index: FileIndex) -> Int32 {
        let index = Int(index.rawValue)
        return index < numbers.count ? numbers[index] : -1
    }
}

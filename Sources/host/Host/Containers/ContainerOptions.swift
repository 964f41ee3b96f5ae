/// What a user asks of a new container.
package struct ContainerOptions: Sendable {
    /// Name or id of the image.
    package var image: String
    /// Instead of the image's own; empty: that.
    package var command: [String] = []
    package var name: String?
    /// What is asked of its first process.
    package var process = ProcessOptions()
    package var hostname: String?
    package var readOnly = false
    package var cpus: Double?
    /// Bytes.
    package var memory: Int64?
    /// Bytes of a writable layer on disk; nil: in memory.
    package var scratch: Int64?
    package var removes = false
    /// An `Isolation` by name, or nil: what the operator configured.
    package var isolation: String?

    /// Asks for a container of an image, with nothing special.
    package init(image: String) { self.image = image }

    /// Most vCPUs that a microVM has.
    static let cpuLimit = 32.0
    /// Least memory of a container, in bytes; as docker has it.
    static let memoryMinimum: Int64 = 6 << 20
    /// What kernel and agent need beside the container's memory, in MiB.
    static let guestOverhead: Int64 = 64

    /// Refuses what no container can have.
    func check() throws(HostError) {
        if let name { try ContainerName.check(name) }
        if let cpus, !(cpus >= 0.01 && cpus <= ContainerOptions.cpuLimit) {
            throw HostError(
                .badInput, "--cpus \(cpus) is not possible: a microVM has up to 32 vCPUs",
                remedy: "ask for 0.01 to 32")
        }
        if let memory, memory < ContainerOptions.memoryMinimum {
            throw HostError(
                .badInput, "--memory \(memory) bytes is too small to run a container",
                remedy: "ask for 6m or more")
        }
        if let scratch, scratch < 4 << 20 || scratch > 1 << 44 {
            throw HostError(
                .badInput, "--scratch \(scratch) bytes is no size for a writable layer",
                remedy: "ask for 4m to 16t")
        }
        try process.check()
        if let isolation, Isolation(rawValue: isolation) == nil {
            throw HostError(
                .badInput, "--isolation \(isolation) is none of \(Isolation.names)")
        }
        if let hostname { try check(hostname: hostname) }
        let texts = command + process.texts
        if texts.contains(where: { $0.utf8.contains(0) }) {
            throw HostError(.badInput, "an argument holds a NUL character")
        }
    }

    private func check(hostname: String) throws(HostError) {
        let good = hostname.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."):
                true
            default: false
            }
        }
        guard good, (1...63).contains(hostname.utf8.count), !hostname.hasPrefix("-") else {
            throw HostError(
                .badInput, "\"\(hostname.prefix(80))\" is no host name",
                remedy: "use up to 63 letters, digits, `-` and `.`")
        }
    }
}

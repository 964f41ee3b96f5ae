internal import Linux
internal import Testing

@testable internal import QEMU

@Suite struct CapabilityCacheTests {
    private let directory = "/tmp/apus-test-\(Process.id)-\(Clock.monotonic)"
    private let name = String(repeating: "0a", count: 32) + ".xml"

    private func entry(_ text: String) throws -> CapabilityCache.Entry {
        try #require(CapabilityCache.Entry(name: name, text: Array(text.utf8)))
    }

    @Test func whatIsKeptIsFound() throws {
        try File.makeDirectory(directory)
        defer { remove() }
        let entry = try entry("<qemuCaps>\n</qemuCaps>\n")
        try CapabilityCache.store(entry, "key", in: directory)
        #expect(CapabilityCache.load("key", in: directory) == entry)
        #expect(CapabilityCache.load("other", in: directory) == nil)
        #expect(try File.status("\(directory)/key").permissions == 0o600)
    }

    @Test func aDamagedByteIsNoticed() throws {
        try File.makeDirectory(directory)
        defer { remove() }
        try CapabilityCache.store(entry("<qemuCaps/>"), "key", in: directory)
        let whole = try File.read("\(directory)/key", limit: 4096)
        for index in whole.indices {
            var bytes = whole
            bytes[index] ^= 1
            try File.write(bytes, to: "\(directory)/key")
            #expect(CapabilityCache.load("key", in: directory) == nil, "byte \(index)")
            try File.write(Array(whole[..<index]), to: "\(directory)/key")
            #expect(CapabilityCache.load("key", in: directory) == nil, "\(index) bytes")
        }
    }

    @Test(arguments: ["", "x.xml", "../" + String(repeating: "0", count: 61) + ".xml"])
    func namesThatLibvirtDoesNotMakeAreRefused(name: String) {
        #expect(CapabilityCache.Entry(name: name, text: [1]) == nil)
    }

    @Test func theCostlyFlagIsTakenOut() {
        let text = "<a>\n  <flag name='x'/>\n  <flag name='cpu-unavailable-features'/>\n</a>\n"
        let lean = String(decoding: CapabilityCache.lean(Array(text.utf8)), as: UTF8.self)
        #expect(lean == "<a>\n  <flag name='x'/>\n</a>\n")
    }

    private func remove() {
        for file in (try? File.list(directory)) ?? [] { try? File.remove("\(directory)/\(file)") }
        try? File.removeDirectory(directory)
    }
}

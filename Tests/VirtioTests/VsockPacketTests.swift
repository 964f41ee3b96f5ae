import Testing

@testable import Virtio

@Suite("vsock: packets and greetings")
struct VsockPacketTests {
    /// Every field at its offset, little-endian, as virtio 1.2 §5.10.6 lists them.
    @Test func headerLayout() {
        var header = VsockHeader(
            .data, from: VsockAddress(cid: 0x0807_0605_0403_0201, port: 0x1413_1211),
            to: VsockAddress(cid: 0x100f_0e0d_0c0b_0a09, port: 0x1817_1615), type: 0x1e1d)
        header.length = 0x1c1b_1a19
        header.operation = 0x201f
        header.flags = 0x2423_2221
        header.bufferSize = 0x2827_2625
        header.forwarded = 0x2c2b_2a29
        let bytes = header.bytes
        let ports: ClosedRange<UInt8> = 0x11...0x18
        var expected: [UInt8] = Array(0x01...0x10)
        expected += ports
        expected += Array(0x19...0x2c)
        #expect(bytes.indices.map { bytes[$0] } == expected)
        #expect(VsockHeader(bytes) == header)
    }

    @Test(arguments: [
        ("CONNECT 1025\n", VsockGreeting.Line.connect(port: 1025, length: 13)),
        ("CONNECT 1025\nrest", .connect(port: 1025, length: 13)),
        ("CONNECT 0\n", .connect(port: 0, length: 10)),
        ("CONNECT 4294967295\n", .connect(port: .max, length: 19)),
        ("", .incomplete), ("CON", .incomplete), ("CONNECT ", .incomplete),
        ("CONNECT 10", .incomplete),
        ("CONNECT 4294967296\n", .malformed), ("CONNECT 99999999999\n", .malformed),
        ("CONNECT \n", .malformed), ("CONNECT -1\n", .malformed), ("CONNECT 1 \n", .malformed),
        ("CONNECT 1\r\n", .malformed), ("connect 1\n", .malformed), ("\n", .malformed),
        ("GET / HTTP/1.1\r\n", .malformed), ("CONNECT  1\n", .malformed),
    ])
    func greeting(line: String, expected: VsockGreeting.Line) {
        var bytes = InlineArray<32, UInt8>(repeating: 0xff)
        for (index, byte) in line.utf8.enumerated() { bytes[index] = byte }
        #expect(VsockGreeting.parse(bytes, count: line.utf8.count) == expected)
    }

    @Test func answer() {
        #expect(VsockGreeting.accepted(hostPort: 1_073_741_824) == Array("OK 1073741824\n".utf8))
    }
}

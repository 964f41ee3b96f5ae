import Testing

@testable import Virtio

/// A header as a Linux guest writes it for a large TCP/IPv4 send.
private func largeSend() -> NetHeader {
    var header = NetHeader()
    header.flags = 1
    header.segmentation = 1
    header.headerLength = 54
    header.segmentSize = 1448
    header.checksumStart = 34
    header.checksumOffset = 16
    return header
}

private let all: NetOffloads = [.checksum, .tcp4, .tcp6, .ecn]

@Suite("net: frame headers")
struct NetHeaderTests {
    @Test func layout() {
        var header = NetHeader()
        header.flags = 1
        header.segmentation = 2
        header.headerLength = 0x0403
        header.segmentSize = 0x0605
        header.checksumStart = 0x0807
        header.checksumOffset = 0x0a09
        header.bufferCount = 0x0c0b
        let bytes = header.bytes
        #expect(bytes.indices.map { bytes[$0] } == Array(1...12))
        #expect(NetHeader(bytes) == header)
    }

    @Test func goodHeadersPass() {
        #expect(NetHeader().checked(frame: 60, offloads: []) == NetHeader())
        #expect(largeSend().checked(frame: 20_000, offloads: all) == largeSend())
        var header = largeSend()
        header.segmentation = 0x84
        #expect(header.checked(frame: 20_000, offloads: all) == header)
        header = NetHeader()
        header.flags = 1
        header.checksumStart = 34
        header.checksumOffset = 6
        #expect(header.checked(frame: 42, offloads: .checksum) == header)
    }

    /// What means nothing does not reach the tap.
    @Test func nonsenseIsCleared() {
        var header = NetHeader()
        header.flags = 0xfe
        header.headerLength = 9999
        header.segmentSize = 7
        header.checksumStart = 60_000
        header.bufferCount = 3
        #expect(header.checked(frame: 60, offloads: all) == NetHeader())
    }

    @Test(arguments: [0, 13, 65_554, Int(UInt32.max)])
    func sizeOfTheFrame(length: Int) {
        #expect(NetHeader().checked(frame: length, offloads: all) == nil)
    }

    @Test func checksumOutsideTheFrame() {
        var header = NetHeader()
        header.flags = 1
        header.checksumStart = 34
        header.checksumOffset = 6
        #expect(header.checked(frame: 41, offloads: all) == nil)
        header.checksumStart = 0xffff
        header.checksumOffset = 0xffff
        #expect(header.checked(frame: 60_000, offloads: all) == nil)
        header.checksumStart = 13
        header.checksumOffset = 0
        #expect(header.checked(frame: 60, offloads: all) == nil)
    }

    @Test func offloadsThatWereNotNegotiated() {
        #expect(largeSend().checked(frame: 20_000, offloads: [.checksum, .tcp6]) == nil)
        var header = largeSend()
        header.segmentation = 0x81
        #expect(header.checked(frame: 20_000, offloads: [.checksum, .tcp4]) == nil)
        header = NetHeader()
        header.flags = 1
        header.checksumStart = 34
        #expect(header.checked(frame: 60, offloads: []) == nil)
    }

    @Test func badLargeSends() {
        for kind: UInt8 in [2, 3, 5, 0x80, 0x7f, 0xff] {
            var header = largeSend()
            header.segmentation = kind
            #expect(header.checked(frame: 20_000, offloads: all) == nil, "kind \(kind)")
        }
        var header = largeSend()
        header.flags = 0
        #expect(header.checked(frame: 20_000, offloads: all) == nil)
        header = largeSend()
        header.segmentSize = 47
        #expect(header.checked(frame: 20_000, offloads: all) == nil)
        header = largeSend()
        header.headerLength = 20_001
        #expect(header.checked(frame: 20_000, offloads: all) == nil)
    }

    @Test func headerLengthIsAtLeastTheChecksumsEnd() {
        var header = largeSend()
        header.headerLength = 0
        #expect(header.checked(frame: 20_000, offloads: all)?.headerLength == 52)
    }
}

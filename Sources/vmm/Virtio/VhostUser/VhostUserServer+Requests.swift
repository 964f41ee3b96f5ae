internal import GuestMemory
internal import Linux

/// The front end's requests.
extension VhostUserServer where Model: ~Copyable {
    /// Takes those that have come, a bounded number; false at the end of the connection.
    func takeRequests() throws(VhostUserError) -> Bool {
        for _ in 0..<Self.requestLimit {
            let outcome = try receiver.next(from: connection)
            switch consume outcome {
            case .end: return false
            case .incomplete: return true
            case .message(var message): try take(&message)
            }
        }
        return true
    }

    private func take(
        _ message: inout VhostUserReceiver.Message
    ) throws(VhostUserError) {
        let header = message.header
        if let answer = try answer(message.request) {
            try send(header.answer(answer))
            return
        }
        switch message.request {
        case .setMemoryTable(let regions): try setMemory(regions, &message.descriptors)
        case .setKick(let ring, let isGiven):
            let index = try check(ring)
            guard isGiven else { throw .protocolViolation("polling is not supported") }
            try setKick(index, try counter(&message.descriptors, "kick"))
        case .setCall(let ring, _):
            rings[try check(ring)].setCall(try counter(&message.descriptors, "call"))
        case .setError(let ring, _):
            rings[try check(ring)].error = try counter(&message.descriptors, "error")
        default: try change(message.request)
        }
        if header.wantsAcknowledgement, protocolFeatures & VhostUserFeature.acknowledgements != 0 {
            try send(header.answer(UInt64(0).bytes))
        }
    }

    private func answer(_ request: VhostUserRequest) throws(VhostUserError) -> [UInt8]? {
        switch request {
        case .getFeatures: return offered.bytes
        case .getProtocolFeatures: return VhostUserFeature.all.bytes
        case .getQueueCount: return UInt64(ringSizes.count).bytes
        case .getBase(let ring):
            let index = try check(ring)
            stop(index)
            return ring.bytes + UInt32(rings[index].base).bytes
        case .getConfiguration(let offset, let size, let flags):
            let range = try configurationRange(offset, Int(size))
            return offset.bytes + size.bytes + flags.bytes + device.model.configuration[range]
        default: return nil
        }
    }

    private func change(_ request: VhostUserRequest) throws(VhostUserError) {
        switch request {
        case .setFeatures(let bits): try setFeatures(bits)
        case .setProtocolFeatures(let bits):
            guard bits & ~VhostUserFeature.all == 0 else {
                throw .protocolViolation("protocol features that were not offered")
            }
            protocolFeatures = bits
        case .resetOwner:
            for ring in ringIndices { stop(ring) }
        case .setSize(let ring, let size):
            let index = try checkStopped(ring)
            guard size > 0, size <= UInt32(ringSizes[index]), size & (size - 1) == 0 else {
                throw .protocolViolation("ring \(ring) of \(size) descriptors")
            }
            rings[index].size = UInt16(size)
        case .setAddresses(let ring, let flags, let descriptors, let used, let available):
            let index = try checkStopped(ring)
            guard flags == 0 else { throw .protocolViolation("ring \(ring) with flags \(flags)") }
            rings[index].addresses = VhostUserRing.Addresses(
                descriptors: descriptors, available: available, used: used)
        case .setBase(let ring, let base):
            let index = try checkStopped(ring)
            guard let base = UInt16(exactly: base) else {
                throw .protocolViolation("ring \(ring) starts at \(base)")
            }
            rings[index].base = base
        case .setEnabled(let ring, let value):
            let index = try check(ring)
            guard value < 2 else { throw .protocolViolation("ring \(ring) enabled by \(value)") }
            rings[index].isEnabled = value == 1
            isWanted(index) ? try update() : pause(index)
        case .setConfiguration(let offset, let flags, let bytes):
            try setConfiguration(offset, flags, bytes)
        default: break
        }
    }

    private func check(_ ring: UInt32) throws(VhostUserError) -> Int {
        guard ring < UInt32(ringSizes.count) else {
            throw .protocolViolation("there is no ring \(ring)")
        }
        return Int(ring)
    }

    private func checkStopped(_ ring: UInt32) throws(VhostUserError) -> Int {
        let index = try check(ring)
        guard rings[index].kick == nil else {
            throw .protocolViolation("ring \(ring) is started already")
        }
        return index
    }

    private func setFeatures(_ bits: UInt64) throws(VhostUserError) {
        guard bits & ~offered == 0, bits & RingFeature.version1 != 0 else {
            throw .protocolViolation("features that were not offered, or without VERSION_1")
        }
        guard bits != accepted else { return }
        guard ringIndices.allSatisfy({ rings[$0].kick == nil }) else {
            throw .protocolViolation("other features while a ring is started")
        }
        isStale = accepted != nil
        accepted = bits
    }

    private func setMemory(
        _ regions: [VhostUserRegion], _ descriptors: inout UnixSocket.Received?
    ) throws(VhostUserError) {
        guard var received = descriptors.take() else { throw .memory(.descriptors(0)) }
        memory = try VhostUserMemory(regions, from: &received, limit: memoryLimit)
        try update()
    }

    private func setKick(_ ring: Int, _ kick: consuming EventFD?) throws(VhostUserError) {
        guard rings[ring].isConfigured, memory != nil, accepted != nil, let kick else {
            throw .protocolViolation(
                "ring \(ring) is kicked before its size, addresses, memory and features are known")
        }
        guard rings[ring].kick == nil else {
            throw .protocolViolation("ring \(ring) is started already")
        }
        do throws(Errno) {
            try epoll.add(
                kick.descriptor.number, [.readable, .edgeTriggered],
                token: Token.kicks + UInt64(ring))
        } catch {
            throw .system("kick of ring \(ring)", error)
        }
        rings[ring].kick = consume kick
        if isWanted(ring) { try update() }
    }

    /// Takes the one descriptor of a request, which must be an eventfd; nil: none came.
    private func counter(
        _ descriptors: inout UnixSocket.Received?, _ name: String
    ) throws(VhostUserError) -> EventFD? {
        guard var received = descriptors.take(), let descriptor = received.takeDescriptor() else {
            return nil
        }
        do throws(Errno) {
            return try EventFD(received: descriptor, like: probe)
        } catch {
            throw .system("a \(name) descriptor that is no eventfd", error)
        }
    }

    private func configurationRange(
        _ offset: UInt32, _ size: Int
    ) throws(VhostUserError) -> Range<Int> {
        guard protocolFeatures & VhostUserFeature.configuration != 0 else {
            throw .protocolViolation("configuration without PROTOCOL_F_CONFIG")
        }
        let count = device.model.configuration.count
        guard Int(offset) <= count, size <= count - Int(offset) else {
            throw .protocolViolation("configuration at \(offset), \(size) of \(count) bytes")
        }
        return Int(offset)..<(Int(offset) + size)
    }

    private func setConfiguration(
        _ offset: UInt32, _ flags: UInt32, _ bytes: [UInt8]
    ) throws(VhostUserError) {
        let range = try configurationRange(offset, bytes.count)
        guard flags == 0, [1, 2, 4].contains(bytes.count) else {
            throw .protocolViolation(
                "configuration written with flags \(flags), \(bytes.count) bytes")
        }
        var value: UInt32 = 0
        for (index, byte) in bytes.enumerated() { value |= UInt32(byte) << UInt32(8 * index) }
        device.model.writeConfiguration(
            offset: range.lowerBound, value: value, size: bytes.count)
    }

    private func send(_ bytes: [UInt8]) throws(VhostUserError) {
        do throws(Errno) {
            guard try connection.send(bytes) == bytes.count else { throw .eagain }
        } catch .eagain {
            throw .protocolViolation("the front end does not read its answers")
        } catch {
            throw .system("sendmsg", error)
        }
    }
}

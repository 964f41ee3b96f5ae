import AgentAPI
import CAgentReference
import SwiftProtobuf
import Testing

/// The agent's messages as SwiftProtobuf sees them, by their full name.
private let types: [String: any (Message & Hashable).Type] = {
    let all: [any (Message & Hashable).Type] = [
        Apus_Agent_V1_Empty.self, Apus_Agent_V1_HelloRequest.self,
        Apus_Agent_V1_HelloResponse.self, Apus_Agent_V1_CreateContainerRequest.self,
        Apus_Agent_V1_Root.self, Apus_Agent_V1_Mount.self, Apus_Agent_V1_Device.self,
        Apus_Agent_V1_Process.self, Apus_Agent_V1_User.self, Apus_Agent_V1_Capabilities.self,
        Apus_Agent_V1_ResourceLimit.self, Apus_Agent_V1_Seccomp.self,
        Apus_Agent_V1_SeccompRule.self, Apus_Agent_V1_SeccompArgument.self,
        Apus_Agent_V1_Streams.self, Apus_Agent_V1_Resources.self,
        Apus_Agent_V1_CreateContainerResponse.self, Apus_Agent_V1_AddProcessRequest.self,
        Apus_Agent_V1_ProcessRequest.self, Apus_Agent_V1_StartProcessResponse.self,
        Apus_Agent_V1_WaitProcessResponse.self, Apus_Agent_V1_SignalProcessRequest.self,
        Apus_Agent_V1_ResizeTerminalRequest.self, Apus_Agent_V1_ContainerRequest.self,
        Apus_Agent_V1_ListProcessesResponse.self, Apus_Agent_V1_ProcessEntry.self,
        Apus_Agent_V1_UpdateContainerRequest.self,
        Apus_Agent_V1_ContainerStatisticsResponse.self, Apus_Agent_V1_IOEntry.self,
        Apus_Agent_V1_NextEventRequest.self, Apus_Agent_V1_NextEventResponse.self,
        Apus_Agent_V1_ContainerEvent.self,
    ]
    return Dictionary(uniqueKeysWithValues: all.map { ($0.protoMessageName, $0) })
}()

private func name(_ index: Int32) -> String {
    // SAFETY: a constant, NUL-terminated string.
    unsafe String(cString: agent_reference_name(index))
}

private func random(_ index: Int32, seed: UInt64) throws -> [UInt8] {
    var out = [UInt8](repeating: 0, count: 1 << 16)
    let capacity = out.count
    // SAFETY: the call writes at most the capacity.
    let length = unsafe agent_reference_random(index, seed, &out, capacity)
    return Array(out.prefix(try #require(Int(exactly: length), "the message fits")))
}

/// Through protobuf-c's decoder and encoder; nil when it refuses the bytes.
private func repack(_ index: Int32, _ bytes: [UInt8]) -> [UInt8]? {
    var out = [UInt8](repeating: 0, count: 1 << 17)
    let capacity = out.count
    // SAFETY: the call reads the bytes' count and writes at most the capacity.
    let length = unsafe agent_reference_repack(index, bytes, bytes.count, &out, capacity)
    return length < 0 ? nil : Array(out.prefix(Int(length)))
}

/// Decodes without the fields that nobody knows, which the two keep in another order.
private func decode<M: Message>(_ type: M.Type, _ bytes: [UInt8]) throws -> M {
    var options = BinaryDecodingOptions()
    options.discardUnknownFields = true
    return try M(serializedBytes: bytes, options: options)
}

@Suite("Agent messages: protobuf-c against SwiftProtobuf")
struct AgentMessageTests {
    static let rounds: UInt64 = 300

    @Test("both sides know the same messages")
    func sameMessages() {
        let known = Set((0..<agent_reference_count()).map(name))
        #expect(known == Set(types.keys))
        #expect(known.count == 32)
    }

    @Test("what one writes the other reads, in both directions", arguments: types.keys.sorted())
    func bothDirections(messageName: String) throws {
        let type = try #require(types[messageName])
        let index = try #require((0..<agent_reference_count()).first { name($0) == messageName })
        func check<M: Message & Hashable>(_ type: M.Type) throws -> Int {
            var bytes = 0
            for seed in 0..<AgentMessageTests.rounds {
                let wire = try random(index, seed: seed &* 0x9e37_79b9_7f4a_7c15)
                bytes += wire.count
                let message = try decode(type, wire)
                // protobuf-c reads and writes, SwiftProtobuf reads.
                let fromC = try #require(repack(index, wire), "protobuf-c refuses seed \(seed)")
                #expect(try decode(type, fromC) == message, "seed \(seed)")
                // SwiftProtobuf writes, protobuf-c reads and writes, SwiftProtobuf reads.
                let written: [UInt8] = try message.serializedBytes()
                let through = try #require(repack(index, written), "seed \(seed)")
                #expect(try decode(type, through) == message, "seed \(seed)")
            }
            return bytes
        }
        let bytes = try check(type)
        #expect(bytes > 0 || messageName == "apus.agent.v1.Empty", "the messages say something")
    }

    @Test("both refuse what ends within a field")
    func truncated() throws {
        var message = Apus_Agent_V1_ContainerRequest()
        message.containerID = "abcdef"
        let bytes: [UInt8] = try message.serializedBytes()
        let index = try #require(
            (0..<agent_reference_count()).first { name($0) == "apus.agent.v1.ContainerRequest" })
        for count in 1..<bytes.count {
            #expect(repack(index, Array(bytes.prefix(count))) == nil)
            #expect(throws: (any Error).self) {
                _ = try Apus_Agent_V1_ContainerRequest(serializedBytes: Array(bytes.prefix(count)))
            }
        }
    }
}

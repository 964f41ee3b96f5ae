import ContainerdAPI
import SwiftProtobuf
import Testing

/// Bytes of a text of hexadecimal digits; what follows a `#` in a line is a comment.
private func hex(_ text: String) -> [UInt8] {
    let digits = text.split(separator: "\n")
        .flatMap { $0.prefix { $0 != "#" } }
        .compactMap(\.hexDigitValue)
    return stride(from: 0, to: digits.count - 1, by: 2).map {
        UInt8(digits[$0] * 16 + digits[$0 + 1])
    }
}

private func encoded(_ message: some Message) throws -> [UInt8] { try message.serializedBytes() }

/// Every vector is written out from the field numbers and types of the shim contract, not by an
/// encoder.
@Suite("containerd's messages on the wire")
struct ContainerdVectorTests {
    @Test("Create: id 1, bundle 2, rootfs 3, terminal 4, stdio 5 to 7, options 10")
    func create() throws {
        let bytes = hex(
            """
            0a 02 6331                    # 1: "c1"
            12 02 2f62                    # 2: "/b"
            1a 0f                         # 3: a Mount
              0a 05 65726f6673            #   1: type "erofs"
              12 02 2f6c                  #   2: source "/l"
              22 02 726f                  #   4: option "ro"
              # 3, target, is empty
            20 01                         # 4: terminal
            2a 02 2f69                    # 5: "/i"
            32 02 2f6f                    # 6: "/o"
            3a 02 2f65                    # 7: "/e"
            52 05 0a 01 74 12 00          # 10: Any "t" without a value
            """)
        let request = try Containerd_Task_V2_CreateTaskRequest(serializedBytes: bytes)
        #expect(request.id == "c1")
        #expect(request.bundle == "/b")
        #expect(request.rootfs.map(\.type) == ["erofs"])
        #expect(request.rootfs.first?.options == ["ro"])
        #expect(request.terminal)
        #expect([request.stdin, request.stdout, request.stderr] == ["/i", "/o", "/e"])
        #expect(request.options.typeURL == "t")
    }

    @Test("State: not exited yet is the year 1, ten bytes of varint")
    func state() throws {
        var response = Containerd_Task_V2_StateResponse()
        response.id = "c1"
        response.pid = 300
        response.status = .running
        response.exitedAt.seconds = -62_135_596_800
        response.execID = "e"
        let expected = hex(
            """
            0a 02 6331                              # 1: "c1"
            18 ac02                                 # 3: 300
            20 02                                   # 4: RUNNING
            52 0b 08 80 92 b8 c3 98 fe ff ff ff 01  # 10: -62135596800 seconds
            5a 01 65                                # 11: "e"
            """)
        #expect(try encoded(response) == expected)
    }

    @Test("Kill, Exec, ResizePty, CloseIO, Update: their numbers")
    func requests() throws {
        let kill = try Containerd_Task_V2_KillRequest(
            serializedBytes: hex("0a0163 120165 1809 2001"))
        #expect((kill.id, kill.execID) == ("c", "e"))
        #expect((kill.signal, kill.all) == (9, true))
        let exec = try Containerd_Task_V2_ExecProcessRequest(
            serializedBytes: hex("0a0163 120165 1801 220169 2a016f 320165 3a020a00"))
        #expect(exec.terminal && exec.stdin == "i" && exec.stdout == "o" && exec.stderr == "e")
        #expect(exec.hasSpec)
        let resize = try Containerd_Task_V2_ResizePtyRequest(
            serializedBytes: hex("0a0163 1850 2018"))
        #expect((resize.width, resize.height) == (80, 24))
        let close = try Containerd_Task_V2_CloseIORequest(serializedBytes: hex("0a0163 1801"))
        #expect(close.stdin)
        let update = try Containerd_Task_V2_UpdateTaskRequest(
            serializedBytes: hex("0a0163 12030a0174 1a060a016b120176"))
        #expect(update.resources.typeURL == "t")
        #expect(update.annotations == ["k": "v"])
        let shutdown = try Containerd_Task_V2_ShutdownRequest(serializedBytes: hex("0a0163 1001"))
        #expect(shutdown.now)
    }

    @Test("answers: Create, Start, Wait, Delete, Connect, Pids")
    func responses() throws {
        #expect(
            try encoded(Containerd_Task_V2_CreateTaskResponse.with { $0.pid = 5 }) == hex("0805"))
        #expect(try encoded(Containerd_Task_V2_StartResponse.with { $0.pid = 5 }) == hex("0805"))
        let time = Google_Protobuf_Timestamp(seconds: 1, nanos: 2)
        #expect(
            try encoded(
                Containerd_Task_V2_WaitResponse.with {
                    $0.exitStatus = 137
                    $0.exitedAt = time
                }) == hex("088901 1204 0801 1002"))
        #expect(
            try encoded(
                Containerd_Task_V2_DeleteResponse.with {
                    $0.pid = 5
                    $0.exitStatus = 1
                    $0.exitedAt = time
                }) == hex("0805 1001 1a04 0801 1002"))
        #expect(
            try encoded(
                Containerd_Task_V2_ConnectResponse.with {
                    $0.shimPid = 1
                    $0.taskPid = 2
                    $0.version = "v"
                }) == hex("0801 1002 1a0176"))
        #expect(
            try encoded(
                Containerd_Task_V2_PidsResponse.with {
                    $0.processes = [.with { $0.pid = 7 }]
                }) == hex("0a020807"))
    }

    @Test("an event's envelope and TaskExit")
    func events() throws {
        let exit = Containerd_Events_TaskExit.with {
            $0.containerID = "c"
            $0.id = "e"
            $0.pid = 7
            $0.exitStatus = 1
            $0.exitedAt = Google_Protobuf_Timestamp(seconds: 1)
        }
        #expect(try encoded(exit) == hex("0a0163 120165 1807 2001 2a020801"))
        #expect(Containerd_Events_TaskExit.protoMessageName == "containerd.events.TaskExit")
        let request = Containerd_Services_Events_Ttrpc_V1_ForwardRequest.with {
            $0.envelope.timestamp = Google_Protobuf_Timestamp(seconds: 1)
            $0.envelope.namespace = "n"
            $0.envelope.topic = "/t"
            $0.envelope.event.typeURL = "u"
        }
        #expect(
            try encoded(request) == hex("0a10 0a020801 12016e 1a022f74 22030a0175"))
    }

    @Test("bootstrap parameters: a negative log level takes ten bytes")
    func bootstrap() throws {
        let parameters = try Containerd_Runtime_Bootstrap_V1_BootstrapParams(
            serializedBytes: hex(
                """
                0a 01 63                          # 1: instance_id "c"
                12 01 6e                          # 2: namespace "n"
                18 fc ff ff ff ff ff ff ff ff 01  # 3: DEBUG, -4
                22 05 322e332e30                  # 4: "2.3.0"
                2a 01 74                          # 5: ttrpc address
                32 01 67                          # 6: gRPC address
                3a 01 62                          # 7: binary
                42 05 0a 03 0a 01 75              # 8: an extension, Any "u"
                4a 02 2f73                        # 9: socket_dir "/s"
                """))
        #expect(parameters.instanceID == "c")
        #expect(parameters.logLevel == .debug)
        #expect(parameters.containerdVersion == "2.3.0")
        #expect(parameters.extensions.first?.value.typeURL == "u")
        #expect(parameters.hasSocketDir && parameters.socketDir == "/s")
    }

    @Test("runtime options, runc's options and RuntimeInfo")
    func options() throws {
        let options = try Runtimeoptions_V1_Options(
            serializedBytes: hex("0a0174 120170 1a0162"))
        #expect(options.typeURL == "t" && options.configPath == "p")
        #expect([UInt8](options.configBody) == [0x62])
        let runc = try Containerd_Runc_V1_Options(
            serializedBytes: hex("1a0163 320162 3a0172 4801"))
        #expect(runc.shimCgroup == "c" && runc.binaryName == "b" && runc.root == "r")
        #expect(runc.systemdCgroup)
        let info = Containerd_Types_RuntimeInfo.with {
            $0.name = "n"
            $0.version.version = "v"
            $0.annotations = ["k": "w"]
        }
        #expect(try encoded(info) == hex("0a016e 12030a0176 2a060a016b120177"))
    }

    @Test("cgroup v2 metrics: the numbers that CRI reads")
    func metrics() throws {
        let metrics = Io_Containerd_Cgroups_V2_Metrics.with {
            $0.pids.current = 1
            $0.cpu.usageUsec = 2
            $0.memory.usage = 3
            $0.memory.usageLimit = 4
            $0.memory.inactiveFile = 5
        }
        #expect(
            try encoded(metrics)
                == hex(
                    """
                    0a 02 08 01                    # 1: pids, current
                    12 02 08 02                    # 2: cpu, usage
                    22 08 68 05 80 02 03 88 02 04  # 4: memory: 13, 32, 33
                    """))
        #expect(
            Io_Containerd_Cgroups_V2_Metrics.protoMessageName
                == "io.containerd.cgroups.v2.Metrics")
    }
}

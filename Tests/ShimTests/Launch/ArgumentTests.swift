import ContainerdAPI
import Linux
import Shim
import SwiftProtobuf
import Testing

@Suite("Command line and standard input")
struct ArgumentTests {
    @Test("Go's flag syntax")
    func flags() throws {
        let seen = try LaunchArguments([
            "-namespace", "k8s.io", "--address", "/run/a.sock", "-publish-binary=/usr/bin/c",
            "-id=x", "-debug", "start",
        ])
        #expect(seen.action == .start)
        #expect(seen.namespace == "k8s.io")
        #expect(seen.address == "/run/a.sock")
        #expect(seen.publishBinary == "/usr/bin/c")
        #expect(seen.id == "x")
        #expect(seen.debug)
        #expect(try !LaunchArguments(["-debug=false", "delete"]).debug)
        #expect(try LaunchArguments(["-v"]).action == .version)
        #expect(try LaunchArguments(["--version"]).action == .version)
        #expect(try LaunchArguments(["-info"]).action == .info)
        #expect(try LaunchArguments([]).action == nil)
    }

    @Test(
        "flags that nobody knows are passed over",
        arguments: [
            ["-new", "start"], ["-new", "value", "start"], ["-new=1", "start"],
            ["-debug-socket", "start", "start"], ["-a", "-b", "start"],
        ])
    func unknown(words: [String]) throws {
        #expect(try LaunchArguments(words).action == .start)
    }

    @Test(
        "what cannot be read is an error",
        arguments: [["-id"], ["-debug=maybe", "start"], ["dance"], ["-id", "x", "dance"]])
    func wrong(words: [String]) {
        #expect(throws: ShimError.self) { try LaunchArguments(words) }
    }

    @Test("identifiers")
    func identifiers() {
        for good in ["a", "A0", "a.b_c-d", String(repeating: "x", count: 76)] {
            #expect(LaunchArguments.isIdentifier(good))
        }
        for bad in [
            "", ".", "..", "a..b", "-a", "a-", "a/b", "a b", "é", "a\0",
            String(repeating: "x", count: 77),
        ] {
            #expect(!LaunchArguments.isIdentifier(bad))
        }
    }

    @Test("a group has one socket, and no two groups share it")
    func sockets() throws {
        func path(_ parts: (String, String, String)) throws -> String {
            try ShimSocket(containerd: parts.0, namespace: parts.1, group: parts.2).path
        }
        let one = try path(("/run/c.sock", "ns", "g"))
        #expect(try path(("/run/c.sock", "ns", "g")) == one)
        #expect(one.hasPrefix("/run/apus/s/"))
        #expect(one.utf8.count <= 106)
        let others = [
            ("/run/c.sock", "n", "sg"), ("/run/d.sock", "ns", "g"), ("/run/c.sock", "ns", "h"),
        ]
        for other in others { #expect(try path(other) != one) }
    }

    @Test("a socket that takes connections and answers none is served only while it lives")
    func dying() throws {
        let scratch = try Scratch()
        let socket = try ShimSocket("\(scratch.path)/s")
        #expect(!socket.isServed, "there is none")
        let listener = try UnixSocket.listen(socket.path)
        #expect(socket.isServed, "it may be busy")
        // As from a process that is being killed: the connection is taken, and ends.
        let number = try listener.descriptor.duplicate().release()
        let closer = try Thread(name: "closer") {
            let copy = UnixSocket(owning: Descriptor(owning: number))
            // The first is the one above.
            for _ in 0..<2 { _ = try? copy.accept() }
        }
        #expect(!socket.isServed, "nobody will answer")
        try closer.join()
        _ = consume listener
    }

    @Test("which answer a containerd gets")
    func answers() {
        func choose(_ bootstrap: String?, _ limit: String?, _ said: String?) -> StartAnswer {
            StartAnswer.choose(
                bootstrapVersion: bootstrap, maxShimVersion: limit, askVersion: { said })
        }
        #expect(choose(nil, nil, "containerd x 2.1.9") == .address)
        #expect(
            choose(nil, "2", "containerd github.com/containerd/containerd/v2 2.1.9") == .json(3))
        #expect(
            choose(nil, "2", "containerd github.com/containerd/containerd v1.7.24~1 x") == .json(2))
        #expect(choose(nil, "2", nil) == .json(2))
        #expect(choose("2.3.0", "2", nil) == .json(3))
    }

    @Test("options of the right type are found behind any prefix")
    func packing() throws {
        let options = Runtimeoptions_V1_Options.with { $0.configPath = "/x" }
        var any = try Google_Protobuf_Any(packing: options)
        #expect(any.typeURL == "runtimeoptions.v1.Options")
        any.typeURL = "type.googleapis.com/runtimeoptions.v1.Options"
        #expect(any.message(Runtimeoptions_V1_Options.self) == options)
        #expect(any.message(Containerd_Runc_V1_Options.self) == nil)
        let input = try StartInput(any.serializedBytes(), id: "c", namespace: "n")
        #expect(input.options == any)
        #expect(input.bootstrap == nil)
        #expect(throws: ShimError.self) { try StartInput([0xff, 0xff], id: "c", namespace: "n") }
    }
}

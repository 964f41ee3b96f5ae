internal import ContainerdAPI
internal import Linux
internal import SwiftProtobuf

/// The shim binary, started as containerd starts it (shim contract, "Invocations").
package struct ShimProcess: Sendable {
    /// The program.
    package let path: String
    /// What stands for containerd's address: the place that tells one store's shims from another's.
    let address: String

    static let name = "containerd-shim-apus-v2"
    static let namespace = "apus"

    /// Finds the program: beside this one, in `/usr/libexec/apus`, in PATH.
    package init(_ store: Store) throws(HostError) {
        address = "\(store.state)/apus"
        guard let found = ShimProcess.locate() else {
            throw HostError(
                .system, "\(ShimProcess.name) is not installed",
                remedy: "put it beside apus, or in /usr/libexec/apus")
        }
        path = found
    }

    /// Names the program, for tests.
    package init(_ store: Store, path: String) {
        address = "\(store.state)/apus"
        self.path = path
    }

    /// Where the program is; nil if it is nowhere.
    package static func locate() -> String? {
        let own = (try? File.readLink("/proc/self/exe")) ?? ""
        let folder = own.lastIndex(of: "/").map { String(own[..<$0]) }
        for place in [folder, "/usr/libexec/apus"].compactMap({ $0 })
        where File.exists("\(place)/\(name)") {
            return "\(place)/\(name)"
        }
        return Program.find(name)
    }

    /// Where the shim of a container listens (docs/contracts.md, "Sockets of shims").
    func socket(of id: String) -> String {
        let key = "\(address)\0\(ShimProcess.namespace)\0\(id)"
        return "/run/apus/s/\(Digest(of: Array(key.utf8)).hex)"
    }

    private func flags(_ id: String) -> [String] {
        let own = (try? File.readLink("/proc/self/exe")) ?? "/bin/false"
        return [
            "-namespace", ShimProcess.namespace, "-address", address, "-publish-binary", own,
            "-id", id,
        ]
    }

    /// Starts a container's shim in its bundle and answers the path of its socket.
    ///
    /// Its events go to the socket `events`.
    func start(
        id: String, bundle: String, events: String?, options: [UInt8]
    ) throws(HostError) -> String {
        let environment = events.map { ["TTRPC_ADDRESS=\($0)"] } ?? []
        let answer = try run(
            flags(id) + ["start"], in: bundle, input: options, environment: environment)
        let text = String(decoding: answer.output, as: UTF8.self)
        guard answer.status == 0, text.hasPrefix("unix://") else {
            let line = text.split(separator: "\n").joined(separator: " ")
            throw HostError(.system, "the shim did not start: \(line)")
        }
        return String(text.dropFirst("unix://".count))
    }

    /// Removes what a dead shim left of a container; harmless when there is nothing.
    func delete(id: String, bundle: String) throws(HostError) {
        let answer = try run(flags(id) + ["-bundle", bundle, "delete"], in: bundle, input: [])
        guard answer.status == 0 else {
            let text = String(decoding: answer.output, as: UTF8.self)
            let line = text.split(separator: "\n").joined(separator: " ")
            throw HostError(.system, "cleaning up after the shim of \(id.prefix(12)): \(line)")
        }
    }

    /// Both outputs are one pipe, read to its end, and the input ends behind what is given.
    private func run(
        _ words: [String], in folder: String, input: [UInt8], environment: [String] = []
    ) throws(HostError) -> (status: Int32, output: [UInt8]) {
        let path = Process.environment("PATH") ?? "/usr/sbin:/usr/bin:/sbin:/bin"
        var spawn = Spawn(
            self.path, words,
            environment: ["PATH=\(path)"] + environment + Failpoint.environment)
        let output = try system("pipe") { () throws(Errno) in try File.pipe() }
        let given = try system("pipe") { () throws(Errno) in try File.pipe() }
        spawn.descriptors = [given.reader.number, output.writer.number, output.writer.number]
        spawn.directory = folder
        spawn.newGroup = true
        // A `start` that outlived its caller would start a server that nobody knows.
        spawn.diesWithParent = true
        let started = spawn
        do throws(Errno) {
            return try ShimProcess.finish(started, input, given, output)
        } catch {
            throw .system(self.path, error)
        }
    }

    private static func finish(
        _ spawn: Spawn, _ input: [UInt8], _ given: consuming PipeEnds,
        _ output: consuming PipeEnds
    ) throws(Errno) -> (Int32, [UInt8]) {
        // Options are far below a pipe's size, so this never waits.
        try given.writer.writeAll(input)
        let pid = try spawn.start()
        given.split { _, _ in }
        var bytes: [UInt8] = []
        output.split { reader, writer in
            _ = consume writer
            bytes = (try? reader.readAll(limit: 1 << 20)) ?? []
        }
        let exit = try? Process.reap(pid, blocking: true)
        return (exit?.status ?? 255, bytes)
    }
}

/// Options of the task, as they go to `start` and `Create`.
struct ShimOptions {
    let message: Google_Protobuf_Any

    /// The isolation, over what the operator configured.
    init(isolation: String?) throws(HostError) {
        var options = Runtimeoptions_V1_Options()
        if let isolation {
            options.configBody.append(contentsOf: Array("isolation = \"\(isolation)\"\n".utf8))
        }
        var message = Google_Protobuf_Any()
        message.typeURL = "runtimeoptions.v1.Options"
        message.value = try encode(options)
        self.message = message
    }
}

/// The bytes of a message of our own making.
func encode<T: SwiftProtobufContiguousBytes>(_ message: some Message) throws(HostError) -> T {
    do {
        return try message.serializedBytes()
    } catch {
        throw HostError(.system, "a message cannot be encoded: \(error)")
    }
}

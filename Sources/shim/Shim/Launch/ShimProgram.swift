package import Linux

/// What the serving process is given.
package struct Serving: ~Copyable {
    package let namespace: String
    /// The group's id: of the container that the server was started for, or of its sandbox.
    package let id: String
    /// The bundle of the first container; also the working directory.
    package let bundle: String
    /// Where `listener` listens.
    package let socket: ShimSocket
    /// Listens already; non-blocking.
    package let listener: UnixSocket
    /// Brings a byte when `start` has done its work, and ends without one if it was killed.
    let launch: SharedDescriptor?
    package let log: ShimLog
    package let events: EventPublisher
}

/// The program `containerd-shim-apus-v2`: what containerd starts it for.
package struct ShimProgram {
    /// Serves until there is nothing left to serve; the process's exit status.
    private let serve: (consuming Serving) -> Int32
    /// See `DeleteAction.undoLeftovers`.
    private let undoLeftovers: (_ bundle: String, _ id: String) throws(ShimError) -> UInt32

    /// A program with its server, and what removes the leftovers of one that died.
    package init(
        serve: @escaping (consuming Serving) -> Int32,
        undoLeftovers:
            @escaping (_ bundle: String, _ id: String) throws(ShimError) -> UInt32
    ) {
        self.serve = serve
        self.undoLeftovers = undoLeftovers
    }

    /// Does what the words after the program's name ask; the process's exit status.
    ///
    /// An error goes to standard error, which containerd shows as the reason.
    package func run(_ words: [String]) -> Int32 {
        do throws(ShimError) {
            return try perform(try LaunchArguments(words))
        } catch {
            complain("\(error)\n")
            return 1
        }
    }

    private func perform(_ arguments: LaunchArguments) throws(ShimError) -> Int32 {
        switch arguments.action {
        case .version: try put(Array(InfoAction.versionText.utf8))
        case .info: try put(try InfoAction.answer(options: readInput()))
        case .start:
            let outcome = try start(arguments)
            try put(Array(outcome.answer.utf8))
            _ = try? outcome.launch?.descriptor.writeAll([1])
        case .delete:
            try arguments.checkIdentity()
            var arguments = arguments
            if arguments.bundle.isEmpty { arguments.bundle = try workingDirectory() }
            try put(try DeleteAction(arguments: arguments, undoLeftovers: undoLeftovers).run())
        case .serve: return try startServing(arguments)
        case nil:
            throw ShimError(
                "this is a shim that containerd starts: start, delete, -info or -v is expected")
        }
        return 0
    }

    private func start(_ arguments: LaunchArguments) throws(ShimError) -> StartAction.Outcome {
        try arguments.checkIdentity()
        let input = try StartInput(
            readInput(), id: arguments.id, namespace: arguments.namespace)
        let environment = try attempt("/proc/self/environ") { () throws(Errno) in
            try File.read("/proc/self/environ", limit: 16 << 20)
        }
        return try StartAction(
            arguments: arguments, input: input, bundle: workingDirectory(),
            environment: environment.split(separator: 0).map {
                String(decoding: $0, as: UTF8.self)
            }
        ).run()
    }

    /// Takes over the listening socket on descriptor 3 and serves.
    private func startServing(_ arguments: LaunchArguments) throws(ShimError) -> Int32 {
        try arguments.checkIdentity()
        let socket = try ShimSocket(arguments.socket)
        let listener = try attempt("the socket that start passes as descriptor 3") {
            () throws(Errno) in
            let descriptor = Descriptor(owning: 3)
            guard try File.status(of: descriptor).kind == .socket else { throw .enotconn }
            try descriptor.setCloseOnExec(true)
            try descriptor.setNonblocking(true)
            return UnixSocket(owning: descriptor)
        }
        var launch: SharedDescriptor?
        if (try? File.status(ofNumber: 4).kind) == .fifo {
            launch = SharedDescriptor(Descriptor(owning: 4))
        }
        try attempt("serving") { () throws(Errno) in
            try launch?.descriptor.setCloseOnExec(true)
            try Process.becomeSubreaper()
            try Signal.ignore(Signal.pipe)
        }
        let log = ShimLog(
            bundle: arguments.bundle, namespace: arguments.namespace, id: arguments.id,
            debug: arguments.debug)
        let events = try EventPublisher(
            address: Process.environment("TTRPC_ADDRESS") ?? "", namespace: arguments.namespace,
            log: log)
        return serve(
            Serving(
                namespace: arguments.namespace, id: arguments.id, bundle: arguments.bundle,
                socket: socket, listener: listener, launch: launch, log: log, events: events))
    }

    private func workingDirectory() throws(ShimError) -> String {
        try attempt("working directory") { () throws(Errno) in
            try File.readLink("/proc/self/cwd")
        }
    }

    private func readInput() throws(ShimError) -> [UInt8] {
        try attempt("standard input") { () throws(Errno) in
            try File.open("/proc/self/fd/0").readAll(limit: StartInput.limit)
        }
    }

    private func put(_ bytes: [UInt8]) throws(ShimError) {
        let output = Descriptor(owning: 1)
        let written = Result { () throws(Errno) in try output.writeAll(bytes) }
        _ = output.release()
        if case .failure(let error) = written { throw ShimError("standard output", error) }
    }

    private func complain(_ text: String) {
        let output = Descriptor(owning: 2)
        _ = try? output.writeAll(text)
        _ = output.release()
    }
}

extension ShimProgram {
    /// The program as it ships: the process ends with it.
    package static func runAndExit(_ words: [String]) -> Never {
        #if FAILPOINTS
            if words == ["-failpoints"] {
                let output = Descriptor(owning: 1)
                _ = try? output.writeAll(
                    Failpoint.allCases.map { "\($0.rawValue)\n" }.joined())
                Process.exit(0)
            }
        #endif
        let program = ShimProgram(
            serve: TaskServer.serve,
            undoLeftovers: TaskServer.undoLeftovers)
        Process.exit(program.run(words))
    }
}

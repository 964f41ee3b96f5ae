internal import ContainerdAPI
internal import Linux
internal import OCI

/// `start`: finds the server of the container's group, or starts one, and answers its address.
struct StartAction {
    let arguments: LaunchArguments
    let input: StartInput
    /// The bundle: the working directory.
    let bundle: String
    let environment: [String]

    private func variable(_ name: String) -> String? {
        environment.first { $0.hasPrefix("\(name)=") }.map { String($0.dropFirst(name.count + 1)) }
    }

    /// What `start` has done.
    struct Outcome {
        /// What goes to the standard output.
        let answer: String
        /// To be given a byte as the last thing of all: a server that sees it closed without one is
        /// of a `start` that was killed, and nobody will ever ask it for anything.
        let launch: SharedDescriptor?
    }

    /// Finds or starts the server.
    func run() throws(ShimError) -> Outcome {
        let group = try self.group()
        let socket = try self.socket(of: group)
        let launch: SharedDescriptor?
        switch try socket.bind() {
        case .taken: launch = nil
        case .bound(let listener):
            launch = try startServer(group: group, socket: socket, listener)
        }
        try attempt("\(bundle)/address") { () throws(Errno) in
            try File.replace("\(bundle)/address", with: Array(socket.address.utf8), mode: 0o644)
        }
        let answer = StartAnswer.choose(
            bootstrapVersion: input.bootstrap?.containerdVersion,
            maxShimVersion: variable("MAX_SHIM_VERSION"),
            askVersion: { ContainerdVersion.ask(arguments.publishBinary) })
        return Outcome(answer: answer.text(socket.address), launch: launch)
    }

    /// The group that the annotations name, else the container by itself.
    ///
    /// Under containerd's sandbox service there is no `config.json`, and the id is the sandbox's.
    private func group() throws(ShimError) -> String {
        let bytes: [UInt8]
        do throws(Errno) {
            bytes = try File.read("\(bundle)/config.json", limit: RuntimeSpec.sizeLimit)
        } catch .enoent {
            return arguments.id
        } catch {
            throw ShimError("\(bundle)/config.json", error)
        }
        do {
            return try RuntimeSpec(decoding: bytes).sandboxGroup ?? arguments.id
        } catch {
            throw ShimError("\(bundle)/\(error)")
        }
    }

    private func socket(of group: String) throws(ShimError) -> ShimSocket {
        if !arguments.socket.isEmpty { return try ShimSocket(arguments.socket) }
        let given = input.bootstrap.flatMap { $0.hasSocketDir ? $0.socketDir : nil } ?? ""
        return try ShimSocket(
            in: given.isEmpty ? ShimSocket.directory : given, containerd: arguments.address,
            namespace: arguments.namespace, group: group)
    }

    /// Starts the server in a session of its own.
    ///
    /// It gets the listening socket as descriptor 3, the end of a pipe as 4, and nothing of what
    /// containerd reads this process's output from.
    private func startServer(
        group: String, socket: ShimSocket, _ listener: consuming UnixSocket
    ) throws(ShimError) -> SharedDescriptor {
        let undo = { _ = try? File.remove(socket.path) }
        do {
            let program = try attempt("/proc/self/exe") { () throws(Errno) in
                try File.readLink("/proc/self/exe")
            }
            var words = ["-namespace", arguments.namespace, "-id", group]
            words += ["-address", arguments.address, "-socket", socket.path, "-bundle", bundle]
            if arguments.debug { words.append("-debug") }
            var environment = environment
            if variable("TTRPC_ADDRESS") == nil,
                let address = input.bootstrap?.containerdTtrpcAddress, !address.isEmpty
            {
                environment.append("TTRPC_ADDRESS=\(address)")
            }
            var spawn = Spawn(program, words + ["serve"], environment: environment)
            let pipe = try attempt("pipe") { () throws(Errno) in SharedPipe(try File.pipe()) }
            spawn.descriptors = [
                nil, nil, nil, listener.descriptor.number, pipe.reader.descriptor.number,
            ]
            spawn.newSession = true
            spawn.directory = bundle
            try protectFromOOM()
            try joinCgroup()
            let started = spawn
            _ = try attempt("starting \(program)") { () throws(Errno) in try started.start() }
            return pipe.writer
        } catch {
            undo()
            throw error
        }
    }

    /// One above containerd's score, which the server inherits: it goes before containerd does.
    private func protectFromOOM() throws(ShimError) {
        guard let text = try? File.read("/proc/\(Process.parentID)/oom_score_adj", limit: 64),
            let score = Int(String(decoding: text, as: UTF8.self).filter { !$0.isWhitespace })
        else { return }
        let wanted = "\(min(score + 1, 1000))"
        // Refused without CAP_SYS_RESOURCE when it lowers the score: the old one then stays.
        _ = try? File.write(Array(wanted.utf8), to: "/proc/self/oom_score_adj")
    }

    /// Joins the cgroup that runc's option `shim_cgroup` names, in every hierarchy that has it.
    private func joinCgroup() throws(ShimError) {
        guard let options = input.options?.message(Containerd_Runc_V1_Options.self),
            !options.shimCgroup.isEmpty
        else { return }
        let root = "/sys/fs/cgroup"
        let name = options.shimCgroup
        guard !name.split(separator: "/").contains("..") else {
            throw ShimError("shim_cgroup \(name): must not hold ..")
        }
        let isUnified = File.exists("\(root)/cgroup.controllers")
        let hierarchies =
            isUnified ? [root] : ((try? File.list(root)) ?? []).map { "\(root)/\($0)" }
        var joined = false
        for hierarchy in hierarchies {
            let procs = "\(hierarchy)/\(name)/cgroup.procs"
            guard File.exists(procs) else { continue }
            try attempt(procs) { () throws(Errno) in
                try File.write(Array("\(Process.id)".utf8), to: procs)
            }
            joined = true
        }
        if !joined { throw ShimError("shim_cgroup \(name): there is no such cgroup") }
    }
}

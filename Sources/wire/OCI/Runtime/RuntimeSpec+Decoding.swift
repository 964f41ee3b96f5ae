extension RuntimeSpec {
    /// Reads a `config.json` of at most 4 MiB.
    ///
    /// - Throws: a `DocumentError` naming the field: no JSON, a wrong type, a value out of range, a
    ///   limit passed. A field that is not known is no error: see `unsupportedFields`.
    package init(decoding bytes: [UInt8]) throws(DocumentError) {
        try self.init(JSONValue(parsing: bytes, as: "config.json"))
    }

    /// The same from a document that was read before.
    package init(_ document: JSONValue) throws(DocumentError) {
        self.init()
        var fields = try Fields(document, document: "config.json")
        version = try fields.string("ociVersion") ?? ""
        guard version.hasPrefix("1.") else {
            throw fields.failure("ociVersion", "\(quoted(version)): only version 1 is known")
        }
        if let root = try fields.fields("root") { self.root = try Root(root, &unsupportedFields) }
        if let process = try fields.fields("process") {
            self.process = try ContainerProcess(process, &unsupportedFields)
        }
        hostname = try fields.string("hostname") ?? ""
        for mount in try fields.list("mounts") {
            mounts.append(try Mount(mount, &unsupportedFields))
        }
        annotations = try fields.texts("annotations")
        if let linux = try fields.fields("linux") {
            self.linux = try LinuxSection(linux, &unsupportedFields)
        }
        // Known to the specification, and none of them run here: each is named.
        if let hooks = try fields.fields("hooks") { hooks.finish(&unsupportedFields) }
        fields.finish(&unsupportedFields)
    }
}

extension RuntimeSpec.Root {
    fileprivate init(_ fields: Fields, _ unsupported: inout [String]) throws(DocumentError) {
        var fields = fields
        path = try fields.string("path") ?? ""
        guard !path.isEmpty else { throw fields.failure("path", "must not be empty") }
        readonly = try fields.bool("readonly") ?? false
        fields.finish(&unsupported)
    }
}

extension RuntimeSpec.Mount {
    fileprivate init(_ fields: Fields, _ unsupported: inout [String]) throws(DocumentError) {
        var fields = fields
        destination = try fields.string("destination") ?? ""
        guard !destination.isEmpty else {
            throw fields.failure("destination", "must not be empty")
        }
        type = try fields.string("type") ?? ""
        source = try fields.string("source") ?? ""
        options = try fields.strings("options", limit: 256)
        fields.finish(&unsupported)
    }
}

extension ContainerProcess {
    /// Reads the JSON of an exec's `spec` (Process), at most 4 MiB; `unsupported` gets the paths of
    /// fields that say something and are not known here.
    package init(decoding bytes: [UInt8], unsupported: inout [String]) throws(DocumentError) {
        let value = try JSONValue(parsing: bytes, as: "process")
        try self.init(Fields(value, document: "process"), &unsupported)
    }

    init(_ fields: Fields, _ unsupported: inout [String]) throws(DocumentError) {
        var fields = fields
        self.init(args: try fields.strings("args"))
        guard !args.isEmpty else { throw fields.failure("args", "must not be empty") }
        terminal = try fields.bool("terminal") ?? false
        if var size = try fields.fields("consoleSize") {
            consoleSize = ConsoleSize(
                width: try size.integer("width") ?? 0, height: try size.integer("height") ?? 0)
            size.finish(&unsupported)
        }
        if let user = try fields.fields("user") { self.user = try User(user, &unsupported) }
        env = try fields.strings("env")
        cwd = try fields.string("cwd") ?? ""
        guard cwd.hasPrefix("/") else {
            throw fields.failure("cwd", "\(quoted(cwd)): must be an absolute path")
        }
        if let sets = try fields.fields("capabilities") {
            capabilities = try Capabilities(sets, &unsupported)
        }
        for limit in try fields.list("rlimits", limit: 64) {
            rlimits.append(try ResourceLimit(limit, &unsupported))
        }
        noNewPrivileges = try fields.bool("noNewPrivileges") ?? false
        oomScoreAdj = try fields.integer("oomScoreAdj")
        if let score = oomScoreAdj, !(-1000...1000).contains(score) {
            throw fields.failure("oomScoreAdj", "must be from -1000 to 1000")
        }
        fields.finish(&unsupported)
    }
}

extension ContainerProcess.User {
    fileprivate init(_ fields: Fields, _ unsupported: inout [String]) throws(DocumentError) {
        var fields = fields
        self.init(
            uid: try fields.integer("uid") ?? 0, gid: try fields.integer("gid") ?? 0,
            additionalGIDs: try fields.numbers("additionalGids"))
        umask = try fields.integer("umask")
        username = try fields.string("username") ?? ""
        fields.finish(&unsupported)
    }
}

extension ContainerProcess.Capabilities {
    fileprivate init(_ fields: Fields, _ unsupported: inout [String]) throws(DocumentError) {
        var fields = fields
        bounding = try fields.strings("bounding", limit: 256)
        effective = try fields.strings("effective", limit: 256)
        inheritable = try fields.strings("inheritable", limit: 256)
        permitted = try fields.strings("permitted", limit: 256)
        ambient = try fields.strings("ambient", limit: 256)
        fields.finish(&unsupported)
    }
}

extension ContainerProcess.ResourceLimit {
    fileprivate init(_ fields: Fields, _ unsupported: inout [String]) throws(DocumentError) {
        var fields = fields
        type = try fields.string("type") ?? ""
        guard type.hasPrefix("RLIMIT_") else {
            throw fields.failure("type", "\(quoted(type)): must be the name of an RLIMIT_…")
        }
        soft = try fields.integer("soft") ?? 0
        hard = try fields.integer("hard") ?? 0
        fields.finish(&unsupported)
    }
}

extension LinuxSection {
    fileprivate init(_ fields: Fields, _ unsupported: inout [String]) throws(DocumentError) {
        var fields = fields
        for var entry in try fields.list("namespaces", limit: 16) {
            namespaces.append(
                Namespace(
                    try entry.string("type") ?? "", path: try entry.string("path") ?? ""))
            entry.finish(&unsupported)
        }
        for device in try fields.list("devices") {
            devices.append(try Device(device, &unsupported))
        }
        cgroupsPath = try fields.string("cgroupsPath") ?? ""
        if let part = try fields.fields("resources") {
            resources = try LinuxResources(part, &unsupported)
        }
        sysctl = try fields.texts("sysctl")
        rootPropagation = try fields.string("rootfsPropagation") ?? ""
        maskedPaths = try fields.strings("maskedPaths", limit: 4096)
        readonlyPaths = try fields.strings("readonlyPaths", limit: 4096)
        if let filter = try fields.fields("seccomp") { seccomp = try Seccomp(filter, &unsupported) }
        fields.finish(&unsupported)
    }
}

extension LinuxSection.Device {
    fileprivate init(_ fields: Fields, _ unsupported: inout [String]) throws(DocumentError) {
        var fields = fields
        path = try fields.string("path") ?? ""
        guard path.hasPrefix("/") else {
            throw fields.failure("path", "\(quoted(path)): must be an absolute path")
        }
        type = try fields.string("type") ?? ""
        major = try fields.integer("major") ?? 0
        minor = try fields.integer("minor") ?? 0
        mode = try fields.integer("fileMode") ?? 0o666
        uid = try fields.integer("uid") ?? 0
        gid = try fields.integer("gid") ?? 0
        fields.finish(&unsupported)
    }
}

extension Seccomp {
    fileprivate init(_ fields: Fields, _ unsupported: inout [String]) throws(DocumentError) {
        var fields = fields
        defaultAction = try fields.string("defaultAction") ?? ""
        defaultErrnoRet = try fields.integer("defaultErrnoRet")
        architectures = try fields.strings("architectures", limit: 64)
        flags = try fields.strings("flags", limit: 64)
        syscalls = []
        for rule in try fields.list("syscalls") {
            syscalls.append(try Rule(rule, &unsupported))
        }
        fields.finish(&unsupported)
    }
}

extension Seccomp.Rule {
    fileprivate init(_ fields: Fields, _ unsupported: inout [String]) throws(DocumentError) {
        var fields = fields
        names = try fields.strings("names", limit: 4096)
        action = try fields.string("action") ?? ""
        errnoRet = try fields.integer("errnoRet")
        args = []
        for var entry in try fields.list("args", limit: 64) {
            args.append(
                Seccomp.Argument(
                    index: try entry.integer("index") ?? 0, value: try entry.integer("value") ?? 0,
                    valueTwo: try entry.integer("valueTwo") ?? 0,
                    op: try entry.string("op") ?? ""))
            entry.finish(&unsupported)
        }
        fields.finish(&unsupported)
    }
}

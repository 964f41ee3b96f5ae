extension RuntimeSpec {
    /// The bytes of a `config.json`.
    package func encoded() -> [UInt8] { json.encoded(indented: true) }

    /// The document.
    package var json: JSONValue {
        var out = ObjectBuilder()
        out.put("ociVersion", version)
        if let root {
            var part = ObjectBuilder()
            part.put("path", root.path)
            part.put("readonly", root.readonly)
            out.put("root", part)
        }
        if let process { out.put("process", process.json) }
        out.put("hostname", hostname)
        out.put("mounts", list: mounts.map(\.json))
        out.put("annotations", annotations)
        out.put("linux", linux.json)
        return out.value
    }
}

extension RuntimeSpec.Mount {
    fileprivate var json: JSONValue {
        var out = ObjectBuilder()
        out.put("destination", destination)
        out.put("type", type)
        out.put("source", source)
        out.put("options", options)
        return out.value
    }
}

extension ContainerProcess {
    /// The document, as an exec's `spec` has it.
    package var json: JSONValue {
        var out = ObjectBuilder()
        out.put("terminal", terminal)
        if let consoleSize {
            var part = ObjectBuilder()
            part.put("height", consoleSize.height)
            part.put("width", consoleSize.width)
            out.put("consoleSize", part)
        }
        out.put("user", user.json)
        out.put("args", args)
        out.put("env", env)
        out.put("cwd", cwd)
        if let capabilities { out.put("capabilities", capabilities.json) }
        out.put("rlimits", list: rlimits.map(\.json))
        out.put("noNewPrivileges", noNewPrivileges)
        out.put("oomScoreAdj", oomScoreAdj)
        return out.value
    }
}

extension ContainerProcess.User {
    fileprivate var json: JSONValue {
        var out = ObjectBuilder()
        out.put("uid", uid)
        out.put("gid", gid)
        out.put("umask", umask)
        out.put("additionalGids", list: additionalGIDs.map { .integer(Int64($0)) })
        out.put("username", username)
        return out.value
    }
}

extension ContainerProcess.Capabilities {
    fileprivate var json: JSONValue {
        var out = ObjectBuilder()
        out.put("bounding", bounding)
        out.put("effective", effective)
        out.put("inheritable", inheritable)
        out.put("permitted", permitted)
        out.put("ambient", ambient)
        return out.value
    }
}

extension ContainerProcess.ResourceLimit {
    fileprivate var json: JSONValue {
        var out = ObjectBuilder()
        out.put("type", type)
        out.put("hard", hard)
        out.put("soft", soft)
        return out.value
    }
}

extension LinuxSection {
    fileprivate var json: JSONValue {
        var out = ObjectBuilder()
        let resources = resources.json
        if !resources.isEmpty { out.put("resources", resources) }
        out.put("cgroupsPath", cgroupsPath)
        out.put("sysctl", sysctl)
        out.put(
            "namespaces",
            list: namespaces.map { namespace in
                var part = ObjectBuilder()
                part.put("type", namespace.type)
                part.put("path", namespace.path)
                return part.value
            })
        out.put("devices", list: devices.map(\.json))
        if let seccomp { out.put("seccomp", seccomp.json) }
        out.put("rootfsPropagation", rootPropagation)
        out.put("maskedPaths", maskedPaths)
        out.put("readonlyPaths", readonlyPaths)
        return out.value
    }
}

extension LinuxSection.Device {
    fileprivate var json: JSONValue {
        var out = ObjectBuilder()
        out.put("path", path)
        out.put("type", type)
        out.put("major", major)
        out.put("minor", minor)
        out.put("fileMode", mode)
        out.put("uid", uid)
        out.put("gid", gid)
        return out.value
    }
}

extension Seccomp {
    fileprivate var json: JSONValue {
        var out = ObjectBuilder()
        out.put("defaultAction", defaultAction)
        out.put("defaultErrnoRet", defaultErrnoRet)
        out.put("architectures", architectures)
        out.put("flags", flags)
        out.put(
            "syscalls",
            list: syscalls.map { rule in
                var part = ObjectBuilder()
                part.put("names", rule.names)
                part.put("action", rule.action)
                part.put("errnoRet", rule.errnoRet)
                part.put("args", list: rule.args.map(\.json))
                return part.value
            })
        return out.value
    }
}

extension Seccomp.Argument {
    fileprivate var json: JSONValue {
        var out = ObjectBuilder()
        out.put("index", index)
        out.put("value", value)
        out.put("valueTwo", valueTwo)
        out.put("op", op)
        return out.value
    }
}

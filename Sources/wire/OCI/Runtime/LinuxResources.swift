/// Limits of a container's cgroup (config-linux.md "Control groups"); also the body of an update.
package struct LinuxResources: Sendable, Equatable {
    /// Processor time.
    package struct CPU: Sendable, Equatable {
        /// From 2 to 262144.
        package var shares: UInt64?
        /// Microseconds in a period; negative: no limit.
        package var quota: Int64?
        /// Microseconds.
        package var period: UInt64?
        /// Microseconds that may be saved up.
        package var burst: UInt64?
        package var cpus: String
        package var mems: String
        package var idle: Int64?
    }

    /// Memory, in bytes; -1 is no limit.
    package struct Memory: Sendable, Equatable {
        package var limit: Int64?
        package var reservation: Int64?
        /// Memory and swap together.
        package var swap: Int64?

        /// Nothing asked.
        package init() {}
    }

    /// One rule of the device cgroup.
    package struct DeviceRule: Sendable, Equatable {
        package var allow: Bool
        /// One of `a`, `c`, `b`; empty: all.
        package var type: String
        package var major: Int64?
        package var minor: Int64?
        package var access: String
    }

    package var cpu: CPU?
    package var memory: Memory?
    /// Most processes; -1: no limit.
    package var pidsLimit: Int64?
    package var devices: [DeviceRule] = []
    /// Files of cgroup v2 by name.
    package var unified: [String: String] = [:]

    /// Nothing asked.
    package init() {}

    /// Reads the JSON of an update's `resources` (LinuxResources).
    ///
    /// `unsupported` gets the paths of fields that say something and are not known here; containerd
    /// expects them to be passed over in an update.
    package init(
        decoding bytes: [UInt8], unsupported: inout [String]
    ) throws(DocumentError) {
        let value = try JSONValue(parsing: bytes, as: "resources")
        try self.init(Fields(value, document: "resources"), &unsupported)
    }

    init(_ fields: Fields, _ unsupported: inout [String]) throws(DocumentError) {
        var fields = fields
        if let cpu = try fields.fields("cpu") { self.cpu = try CPU(cpu, &unsupported) }
        if let memory = try fields.fields("memory") {
            self.memory = try Memory(memory, &unsupported)
        }
        if var pids = try fields.fields("pids") {
            pidsLimit = try pids.integer("limit")
            pids.finish(&unsupported)
        }
        for rule in try fields.list("devices") {
            devices.append(try DeviceRule(rule, &unsupported))
        }
        unified = try fields.texts("unified")
        fields.finish(&unsupported)
    }

    /// The JSON form; what is not set is left out.
    package var json: JSONValue {
        var out = ObjectBuilder()
        if let cpu {
            var part = ObjectBuilder()
            part.put("shares", cpu.shares)
            part.put("quota", cpu.quota)
            part.put("period", cpu.period)
            part.put("burst", cpu.burst)
            part.put("cpus", cpu.cpus)
            part.put("mems", cpu.mems)
            part.put("idle", cpu.idle)
            out.put("cpu", part)
        }
        if let memory {
            var part = ObjectBuilder()
            part.put("limit", memory.limit)
            part.put("reservation", memory.reservation)
            part.put("swap", memory.swap)
            out.put("memory", part)
        }
        if let pidsLimit { out.put("pids", .object([.init("limit", .integer(pidsLimit))])) }
        out.put("devices", list: devices.map(\.json))
        out.put("unified", unified)
        return out.value
    }
}

extension LinuxResources.CPU {
    /// Nothing asked.
    package init() {
        cpus = ""
        mems = ""
    }

    fileprivate init(_ fields: Fields, _ unsupported: inout [String]) throws(DocumentError) {
        var fields = fields
        shares = try fields.integer("shares")
        quota = try fields.integer("quota")
        period = try fields.integer("period")
        burst = try fields.integer("burst")
        cpus = try fields.string("cpus") ?? ""
        mems = try fields.string("mems") ?? ""
        idle = try fields.integer("idle")
        fields.finish(&unsupported)
    }
}

extension LinuxResources.Memory {
    fileprivate init(_ fields: Fields, _ unsupported: inout [String]) throws(DocumentError) {
        var fields = fields
        limit = try fields.integer("limit")
        reservation = try fields.integer("reservation")
        swap = try fields.integer("swap")
        // What cgroup v2 always does, and what only asks for a check.
        _ = try fields.bool("useHierarchy")
        _ = try fields.bool("checkBeforeUpdate")
        fields.finish(&unsupported)
    }
}

extension LinuxResources.DeviceRule {
    fileprivate init(_ fields: Fields, _ unsupported: inout [String]) throws(DocumentError) {
        var fields = fields
        allow = try fields.bool("allow") ?? false
        type = try fields.string("type") ?? ""
        major = try fields.integer("major")
        minor = try fields.integer("minor")
        access = try fields.string("access") ?? ""
        fields.finish(&unsupported)
    }

    fileprivate var json: JSONValue {
        var out = ObjectBuilder()
        out.put("allow", always: allow)
        out.put("type", type)
        out.put("major", major)
        out.put("minor", minor)
        out.put("access", access)
        return out.value
    }
}

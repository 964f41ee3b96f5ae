internal import Linux
internal import TTRPC

/// Everything that is read out of a request, without doing what it asks: for the fuzzer.
package enum RequestCheck {
    /// The methods of `apus.agent.v1.Agent` whose requests have a content.
    package static let methods = [
        "Hello", "CreateContainer", "AddProcess", "ProcessRequest", "SignalProcess",
        "ResizeTerminal", "ContainerRequest", "UpdateContainer", "NextEvent",
    ]

    /// Decodes and checks one as the service does; the refusal's text, nil if there is none.
    package static func run(_ method: String, _ payload: [UInt8]) -> String? {
        do throws(Status) {
            try check(method, payload)
            return nil
        } catch { return error.message }
    }

    /// Reads a container's files of users and groups and resolves a name in them.
    package static func resolve(_ name: String, passwd: [UInt8], group: [UInt8]) -> String? {
        do throws(Status) {
            let database = UserDatabase(passwd: passwd, group: group)
            let identity = try database.resolve(UserSpecification(username: name))
            return identity.home
        } catch { return error.message }
    }

    private static func check(_ method: String, _ payload: [UInt8]) throws(Status) {
        switch method {
        case "Hello": _ = try HelloRequest(decoding: payload)
        case "CreateContainer": try check(ContainerSpecification(decoding: payload))
        case "AddProcess":
            _ = try ProcessPlan(ExecSpecification(decoding: payload).process, isInit: false)
        case "SignalProcess": _ = try SignalRequest(decoding: payload)
        case "ResizeTerminal": _ = try ResizeRequest(decoding: payload)
        case "ContainerRequest": _ = try ProcessName(decodingContainer: payload)
        case "UpdateContainer": _ = try UpdateRequest(decoding: payload)
        case "NextEvent": _ = try NextEventRequest(decoding: payload)
        default: _ = try ProcessName(decoding: payload)
        }
    }

    private static func check(_ asked: ContainerSpecification) throws(Status) {
        try Agent.checkIdentifier(asked.id, "container_id")
        let namespaces = try Agent.namespaces(asked.namespaces)
        _ = try ProcessPlan(asked.process, isInit: true)
        for mount in asked.mounts { _ = try PlannedMount(mount) }
        for (key, _) in asked.sysctls { try checkSysctl(key, namespaces: namespaces) }
        for device in asked.devices { try Agent.check(device) }
        _ = try RootPropagation(asked.rootPropagation)
    }
}

internal import CAgentAPI
internal import CProtobufC

// The answers of agent.proto, encoded by protobuf-c.

/// Memory for the strings and entries of one message while it is encoded.
///
/// Safe from outside: what it gives out is used before it goes.
@safe
private struct Arena: ~Copyable {
    // SAFETY: each block is freed once, with the arena.
    private var blocks: [UnsafeMutableRawPointer] = unsafe []

    /// The text, ended with NUL.
    mutating func text(_ text: String) -> UnsafeMutablePointer<CChar> {
        // SAFETY: room for the bytes and the NUL; freed with the arena, after the encoding.
        let bytes = text.utf8
        let block = UnsafeMutablePointer<CChar>.allocate(capacity: bytes.count + 1)
        unsafe blocks.append(UnsafeMutableRawPointer(block))
        var index = 0
        for byte in bytes {
            unsafe block[index] = CChar(bitPattern: byte)
            index += 1
        }
        unsafe block[index] = 0
        return unsafe block
    }

    /// Entries, and the pointers to them that protobuf-c takes.
    mutating func entries<Entry>(
        _ all: [Entry]
    ) -> UnsafeMutablePointer<UnsafeMutablePointer<Entry>?>? {
        // SAFETY: room for each entry and each pointer; freed with the arena. The entries are C
        // structures, which need no deinitialising.
        guard !all.isEmpty else { return nil }
        let store = UnsafeMutablePointer<Entry>.allocate(capacity: all.count)
        let pointers = UnsafeMutablePointer<UnsafeMutablePointer<Entry>?>.allocate(
            capacity: all.count)
        unsafe blocks.append(UnsafeMutableRawPointer(store))
        unsafe blocks.append(UnsafeMutableRawPointer(pointers))
        for index in all.indices {
            unsafe (store + index).initialize(to: all[index])
            unsafe (pointers + index).initialize(to: store + index)
        }
        return unsafe pointers
    }

    deinit {
        // SAFETY: each block was allocated above and is used by nobody any more.
        for index in unsafe blocks.indices { unsafe blocks[index].deallocate() }
    }
}

/// Encodes a message whose pointers live for the call.
private func packed<Message>(
    _ message: Message, _ size: (UnsafePointer<Message>?) -> Int,
    _ pack: (UnsafePointer<Message>?, UnsafeMutablePointer<UInt8>?) -> Int
) -> [UInt8] {
    // SAFETY: the copy lives for both calls, and pack writes what size counted.
    unsafe withUnsafePointer(to: message) { pointer in
        var out = [UInt8](repeating: 0, count: unsafe size(pointer))
        guard !out.isEmpty else { return out }
        var span = out.mutableSpan
        unsafe span.withUnsafeMutableBufferPointer { buffer in
            _ = unsafe pack(pointer, buffer.baseAddress)
        }
        return out
    }
}

struct HelloResponse {
    var agentVersion = ""
    var kernelRelease = ""
    var started: Int64 = 0
    var ready: Int64 = 0
    var cpus: UInt32 = 0
    var memory: UInt64 = 0

    func encoded() -> [UInt8] {
        // SAFETY: the strings live in the arena until the end of the function.
        var arena = Arena()
        var m = unsafe Apus__Agent__V1__HelloResponse()
        unsafe apus__agent__v1__hello_response__init(&m)
        unsafe m.api_version = 1
        unsafe m.agent_version = arena.text(agentVersion)
        unsafe m.kernel_release = arena.text(kernelRelease)
        unsafe m.started_ns = started
        unsafe m.ready_ns = ready
        unsafe m.cpus = cpus
        unsafe m.memory_bytes = memory
        return unsafe packed(
            m, apus__agent__v1__hello_response__get_packed_size,
            apus__agent__v1__hello_response__pack)
    }
}

extension Messages {
    /// CreateContainerResponse.
    static func created(pid: UInt32) -> [UInt8] {
        // SAFETY: plain numbers.
        var m = unsafe Apus__Agent__V1__CreateContainerResponse()
        unsafe apus__agent__v1__create_container_response__init(&m)
        unsafe m.pid = pid
        return unsafe packed(
            m, apus__agent__v1__create_container_response__get_packed_size,
            apus__agent__v1__create_container_response__pack)
    }

    /// StartProcessResponse.
    static func started(pid: UInt32) -> [UInt8] {
        // SAFETY: plain numbers.
        var m = unsafe Apus__Agent__V1__StartProcessResponse()
        unsafe apus__agent__v1__start_process_response__init(&m)
        unsafe m.pid = pid
        return unsafe packed(
            m, apus__agent__v1__start_process_response__get_packed_size,
            apus__agent__v1__start_process_response__pack)
    }

    /// ListProcessesResponse.
    static func processes(_ all: [(pid: UInt32, exec: String)]) -> [UInt8] {
        // SAFETY: strings and entries live in the arena until the end of the function.
        var arena = Arena()
        var entries: [Apus__Agent__V1__ProcessEntry] = unsafe []
        for one in all {
            var entry = unsafe Apus__Agent__V1__ProcessEntry()
            unsafe apus__agent__v1__process_entry__init(&entry)
            unsafe entry.pid = one.pid
            unsafe entry.exec_id = arena.text(one.exec)
            unsafe entries.append(entry)
        }
        var m = unsafe Apus__Agent__V1__ListProcessesResponse()
        unsafe apus__agent__v1__list_processes_response__init(&m)
        unsafe m.n_processes = entries.count
        unsafe m.processes = arena.entries(entries)
        return unsafe packed(
            m, apus__agent__v1__list_processes_response__get_packed_size,
            apus__agent__v1__list_processes_response__pack)
    }

    /// NextEventResponse with an event of the only kind there is.
    static func oomEvent(sequence: UInt64, container: String) -> [UInt8] {
        // SAFETY: the string and the event live in the arena until the end of the function.
        var arena = Arena()
        var event = unsafe Apus__Agent__V1__ContainerEvent()
        unsafe apus__agent__v1__container_event__init(&event)
        unsafe event.container_id = arena.text(container)
        var m = unsafe Apus__Agent__V1__NextEventResponse()
        unsafe apus__agent__v1__next_event_response__init(&m)
        unsafe m.sequence = sequence
        unsafe m.event_case = APUS__AGENT__V1__NEXT_EVENT_RESPONSE__EVENT_OOM
        unsafe m.oom = arena.entries([event])?.pointee
        return unsafe packed(
            m, apus__agent__v1__next_event_response__get_packed_size,
            apus__agent__v1__next_event_response__pack)
    }
}

extension ExitReport {
    func encoded() -> [UInt8] {
        // SAFETY: plain numbers.
        var m = unsafe Apus__Agent__V1__WaitProcessResponse()
        unsafe apus__agent__v1__wait_process_response__init(&m)
        unsafe m.exit_status = status
        unsafe m.exited_at_ns = exitedAt
        unsafe m.oom_killed = oomKilled ? 1 : 0
        unsafe m.pid = pid
        return unsafe packed(
            m, apus__agent__v1__wait_process_response__get_packed_size,
            apus__agent__v1__wait_process_response__pack)
    }
}

extension Statistics {
    func encoded() -> [UInt8] {
        // SAFETY: strings and entries live in the arena until the end of the function.
        var arena = Arena()
        var m = unsafe Apus__Agent__V1__ContainerStatisticsResponse()
        unsafe apus__agent__v1__container_statistics_response__init(&m)
        unsafe m.cpu_usage_us = cpuUsage
        unsafe m.cpu_user_us = cpuUser
        unsafe m.cpu_system_us = cpuSystem
        unsafe m.cpu_periods = cpuPeriods
        unsafe m.cpu_throttled_periods = cpuThrottledPeriods
        unsafe m.cpu_throttled_us = cpuThrottled
        unsafe m.memory_usage = memoryUsage
        unsafe m.memory_limit = memoryLimit
        unsafe m.memory_peak = memoryPeak
        unsafe m.pids_current = pidsCurrent
        unsafe m.pids_limit = pidsLimit
        unsafe m.swap_usage = swapUsage
        unsafe m.swap_limit = swapLimit
        var stats: [Apus__Agent__V1__ContainerStatisticsResponse__MemoryStatEntry] = unsafe []
        for one in memoryStat {
            var entry = unsafe Apus__Agent__V1__ContainerStatisticsResponse__MemoryStatEntry()
            unsafe apus__agent__v1__container_statistics_response__memory_stat_entry__init(&entry)
            unsafe entry.key = arena.text(one.key)
            unsafe entry.value = one.value
            unsafe stats.append(entry)
        }
        // SAFETY: as above.
        var events: [Apus__Agent__V1__ContainerStatisticsResponse__MemoryEventsEntry] = unsafe []
        for one in memoryEvents {
            var entry = unsafe Apus__Agent__V1__ContainerStatisticsResponse__MemoryEventsEntry()
            unsafe apus__agent__v1__container_statistics_response__memory_events_entry__init(
                &entry)
            unsafe entry.key = arena.text(one.key)
            unsafe entry.value = one.value
            unsafe events.append(entry)
        }
        // SAFETY: as above.
        unsafe m.n_memory_stat = stats.count
        unsafe m.memory_stat = arena.entries(stats)
        unsafe m.n_memory_events = events.count
        unsafe m.memory_events = arena.entries(events)
        let io = unsafe ioEntries()
        unsafe m.n_io = io.count
        unsafe m.io = arena.entries(io)
        return unsafe packed(
            m, apus__agent__v1__container_statistics_response__get_packed_size,
            apus__agent__v1__container_statistics_response__pack)
    }

    private func ioEntries() -> [Apus__Agent__V1__IOEntry] {
        // SAFETY: plain numbers.
        unsafe io.map { one in
            var entry = unsafe Apus__Agent__V1__IOEntry()
            unsafe apus__agent__v1__ioentry__init(&entry)
            unsafe entry.major = one.major
            unsafe entry.minor = one.minor
            unsafe entry.read_bytes = one.readBytes
            unsafe entry.written_bytes = one.writtenBytes
            unsafe entry.reads = one.reads
            unsafe entry.writes = one.writes
            return unsafe entry
        }
    }
}

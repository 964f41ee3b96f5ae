internal import Linux
internal import TTRPC

/// Where the disks of a guest are found.
enum DiskSource {
    /// By the serial of /sys/block/*/serial.
    case blockDevices
    /// Directories of that one, by name: for tests without a machine.
    case directories(String)
}

/// The read-only layers, each mounted once however many containers use it.
final class LayerStore {
    private struct Layer {
        let serial: String
        let index: Int
        var users: Int
    }

    private let source: DiskSource
    /// Mount points are here, named by short numbers: overlay takes all of them in one page.
    let directory: String
    private var layers: [Layer] = []

    init(_ source: DiskSource, directory: String) {
        self.source = source
        self.directory = directory
    }

    /// Mounts what is not mounted yet and counts one more user of each; the numbers under
    /// `directory`.
    func take(_ serials: [String]) throws(Status) -> [Int] {
        guard !serials.isEmpty else {
            throw Status(.invalidArgument, "root.layer_disks: at least one layer is needed")
        }
        var taken: [Int] = []
        do throws(Status) {
            for serial in serials { taken.append(try take(serial)) }
        } catch {
            release(taken)
            throw error
        }
        return taken
    }

    private func take(_ serial: String) throws(Status) -> Int {
        if let at = layers.firstIndex(where: { $0.serial == serial }) {
            layers[at].users += 1
            return layers[at].index
        }
        var index = 0
        while layers.contains(where: { $0.index == index }) { index += 1 }
        let target = "\(directory)/\(index)"
        try step("make \(target)") { () throws(Errno) in try File.makeDirectories(target) }
        switch source {
        case .blockDevices:
            let device = try LayerStore.device(serial: serial)
            try step("mount layer \(serial)") { () throws(Errno) in
                try Mount.mount(device, on: target, type: "erofs", .readOnly)
            }
        case .directories(let all):
            try step("layer \(serial)", .notFound) { () throws(Errno) in
                try Mount.mount("\(all)/\(serial)", on: target, .bind)
            }
        }
        layers.append(Layer(serial: serial, index: index, users: 1))
        return index
    }

    /// Counts one user less and unmounts what nobody uses.
    func release(_ indices: [Int]) {
        for index in indices {
            guard let at = layers.firstIndex(where: { $0.index == index }) else { continue }
            layers[at].users -= 1
            guard layers[at].users == 0 else { continue }
            layers.remove(at: at)
            _ = try? Mount.unmount("\(directory)/\(index)", lazily: true)
        }
    }

    /// The device of the disk with a serial.
    func scratch(serial: String) throws(Status) -> String {
        switch source {
        case .blockDevices: try LayerStore.device(serial: serial)
        case .directories:
            throw Status(.unimplemented, "scratch disk \(serial): there are no disks in a test")
        }
    }

    private static func device(serial: String) throws(Status) -> String {
        let names = (try? File.list("/sys/block")) ?? []
        for name in names {
            guard let bytes = try? File.read("/sys/block/\(name)/serial", limit: 64) else {
                continue
            }
            let found = bytes.prefix { $0 != 0 && $0 != UInt8(ascii: "\n") }
            if serial.utf8.elementsEqual(found) { return "/dev/\(name)" }
        }
        throw Status(.notFound, "no disk has the serial \(serial)")
    }
}

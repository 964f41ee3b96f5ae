internal import Linux

/// Names of containers.
enum ContainerName {
    /// Refuses what is no name: it must fit into a path and a command line.
    static func check(_ name: String) throws(HostError) {
        let bytes = Array(name.utf8)
        let letters = bytes.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"):
                true
            default: Array("_.-".utf8).contains(byte)
            }
        }
        guard letters, (1...63).contains(bytes.count),
            let first = bytes.first, !Array("_.-".utf8).contains(first)
        else {
            throw HostError(
                .badInput, "\"\(name.prefix(80))\" is no container name",
                remedy: "use 1 to 63 letters, digits, `_`, `.` and `-`, "
                    + "and begin with a letter or digit")
        }
    }

    private static let qualities = [
        "amber", "brisk", "calm", "clever", "crisp", "eager", "early", "fond", "gentle", "glad",
        "green", "hardy", "keen", "light", "lively", "lucky", "mellow", "merry", "neat", "noble",
        "plain", "proud", "quick", "quiet", "rapid", "ready", "sharp", "silver", "steady", "swift",
        "warm", "wise",
    ]
    private static let birds = [
        "bunting", "crane", "curlew", "dunlin", "eider", "falcon", "finch", "gannet", "goshawk",
        "harrier", "heron", "hobby", "jackdaw", "kestrel", "kite", "lapwing", "lark", "linnet",
        "martin", "merlin", "osprey", "ouzel", "petrel", "plover", "redstart", "robin", "snipe",
        "stork", "swallow", "swift", "tern", "wren",
    ]

    /// A name that nobody has, for those who give none.
    static func invent(random: [UInt8], taken: Set<String>) -> String {
        let quality = qualities[Int(random.first ?? 0) % qualities.count]
        let bird = birds[Int(random.last ?? 0) % birds.count]
        let name = "\(quality)-\(bird)"
        if !taken.contains(name) { return name }
        var number = 2
        while taken.contains("\(name)-\(number)") { number += 1 }
        return "\(name)-\(number)"
    }
}

/// Random bytes of the kernel, for ids.
enum Random {
    static func bytes(_ count: Int) throws(HostError) -> [UInt8] {
        try system("/dev/urandom") { () throws(Errno) in
            try File.open("/dev/urandom").read(upTo: count)
        }
    }
}

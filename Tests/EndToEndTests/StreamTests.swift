import Linux
import Testing

extension EndToEnd {
    @Suite("pass input", .serialized, .place, .leavesNothing) struct PassInput {
        @Test("-i: nothing, a line, and a MiB come through and end", arguments: [0, 6, 1 << 20])
        func input(_ count: Int) throws {
            let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
            let outcome = try run("-i", command: ["cat"], input: .bytes(bytes))
            #expect(outcome.status == 0, "\(outcome.errors)")
            #expect(outcome.output == bytes, "\(outcome.output.count) bytes of \(count)")
        }

        @Test("-i: input that comes later, line by line")
        func dialogue() throws {
            let command = try startRun(
                ["--rm", "-i"], ["sh", "-c", "while read x; do echo got $x; done; echo end"],
                input: .open)
            try command.send("one\n")
            command.expectOutput("got one\n")
            try command.send("two\n")
            command.expectOutput("got two\n")
            command.endInput()
            let outcome = try command.finish()
            #expect(outcome.text == "got one\ngot two\nend\n", "\(outcome.all)")
        }

        @Test("input that nobody reads stops nothing")
        func unread() throws {
            let bytes = [UInt8](repeating: 97, count: 1 << 20)
            let outcome = try run("-i", command: ["echo", "x"], input: .bytes(bytes))
            #expect(outcome.status == 0 && outcome.text == "x\n", "\(outcome.all)")
        }
    }

    @Suite("get output", .serialized, .place, .leavesNothing) struct GetOutput {
        /// Guests of an emulated machine get less.
        private static let amount = Programs.isNested ? 8 << 20 : 64 << 20

        @Test("large output is complete and in order")
        func large() throws {
            let count = GetOutput.amount
            let outcome = try shell("yes 0123456789abcde | head -c \(count)")
            #expect(outcome.status == 0)
            #expect(outcome.output.count == count, "\(outcome.errors)")
            #expect(outcome.output == GetOutput.pattern(count))
        }

        @Test("output and errors at once, both large")
        func both() throws {
            let count = GetOutput.amount / 4
            let outcome = try shell(
                "yes 0123456789abcde | head -c \(count) >&2 & "
                    + "yes 0123456789abcde | head -c \(count); wait")
            #expect(outcome.output == GetOutput.pattern(count))
            #expect(Array(outcome.errors.utf8) == GetOutput.pattern(count))
        }

        /// `count` bytes, a multiple of 16, of what `yes 0123456789abcde` says.
        private static func pattern(_ count: Int) -> [UInt8] {
            var bytes = Array("0123456789abcde\n".utf8)
            while bytes.count < count { bytes += bytes.prefix(count - bytes.count) }
            return bytes
        }

        @Test("any byte comes through unchanged: random data, by their sha256")
        func digest() throws {
            let place = try #require(Place.current)
            let outcome = try shell(
                """
                dd if=/dev/urandom of=/tmp/data bs=65536 count=\(Programs.isNested ? 32 : 256) \
                2>/dev/null
                sha256sum < /tmp/data >&2; cat /tmp/data
                """)
            let file = "\(place.path)/data"
            try File.write(outcome.output, to: file)
            defer { _ = try? File.remove(file) }
            let expected = String(outcome.errors.prefix(64))
            let check = try Place.outcome(
                of: "/bin/sh", ["-c", "sha256sum \(file) | grep -q ^\(expected)"])
            #expect(expected.count == 64 && check == 0, "\(outcome.errors)")
        }

        @Test("output right before the end is complete, every time")
        func rightBeforeTheEnd() throws {
            for _ in 0..<(Programs.isNested ? 3 : 10) {
                let outcome = try shell("head -c 300000 /dev/zero; echo -n end; exit 5")
                #expect(outcome.status == 5)
                #expect(outcome.output.count == 300_003)
            }
        }

        @Test("a reader that is slow to begin gets everything")
        func slowReader() throws {
            let command = try startRun(
                ["--rm"], ["sh", "-c", "yes 0123456789abcde | head -c 4194304"], delay: 5000)
            let outcome = try command.finish()
            #expect(outcome.status == 0, "\(outcome.errors)")
            #expect(outcome.output == GetOutput.pattern(4_194_304), "\(outcome.output.count)")
        }

        @Test("a process that outlives the command does not hold it")
        func backgroundProcess() throws {
            let outcome = try shell("sleep 1000 & echo started")
            #expect(outcome.status == 0 && outcome.text == "started\n", "\(outcome.all)")
        }
    }
}

import OCI
import Testing

private func parse(_ text: String, limits: JSONLimits = JSONLimits()) throws -> JSONValue {
    try JSONValue(parsing: Array(text.utf8), as: "x", limits: limits)
}

@Suite("JSON")
struct JSONTests {
    @Test(
        "documents mean what RFC 8259 says",
        arguments: [
            ("null", .null), (" true ", .bool(true)), ("[]", .array([])), ("{}", .object([])),
            ("-0", .integer(0)), ("9223372036854775807", .integer(.max)),
            ("-9223372036854775808", .integer(.min)),
            ("18446744073709551615", .unsigned(.max)), ("1.5e3", .number(1500)),
            (#""a\u00e9\ud83d\ude00\n\/""#, .string("aé😀\n/")),
            (
                #"{"a":[1,{"b":null}]}"#,
                .object([
                    .init("a", .array([.integer(1), .object([.init("b", .null)])]))
                ])
            ),
        ] as [(String, JSONValue)])
    func reads(text: String, expected: JSONValue) throws {
        let value = try parse(text)
        #expect(value == expected)
        for indented in [false, true] {
            let again = try JSONValue(parsing: value.encoded(indented: indented), as: "x")
            #expect(again == expected, "writing and reading changes nothing")
        }
    }

    @Test(
        "what is no JSON is refused",
        arguments: [
            "", " ", "nul", "tru", "01", "-", "1.", ".5", "1e", "+1", "'a'", "\"a", "\"\\x\"",
            "\"\\ud800\"", "\"\\ud800\\u0041\"", "\"\\udc00\"", "\"\u{1}\"", "[1,]", "[1 2]",
            "[", "{", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "{\"a\":1,\"a\":2}", "1 2",
            "[]]", "1e999", "\u{feff}{}", "NaN", "\"\\u12g4\"",
        ])
    func refuses(text: String) {
        #expect(throws: DocumentError.self) { try parse(text) }
    }

    @Test("bytes that are no UTF-8 are refused")
    func encoding() {
        #expect(throws: DocumentError.self) {
            try JSONValue(parsing: [0x22, 0xc3, 0x28, 0x22], as: "x")
        }
    }

    @Test("depth, values, size and strings have limits")
    func limits() throws {
        let nested = String(repeating: "[", count: 32) + String(repeating: "]", count: 32)
        _ = try parse(nested)
        #expect(throws: DocumentError.self) { try parse("[\(nested)]") }
        #expect(throws: DocumentError.self) {
            try parse(String(repeating: "[", count: 1_000_000))
        }
        var few = JSONLimits()
        few.values = 3
        few.size = 20
        few.stringLength = 4
        _ = try parse("[1,2]", limits: few)
        #expect(throws: DocumentError.self) { try parse("[1,2,3]", limits: few) }
        #expect(throws: DocumentError.self) { try parse("\"abcdef\"", limits: few) }
        #expect(throws: DocumentError.self) {
            try parse(String(repeating: " ", count: 21), limits: few)
        }
    }

    @Test("a value is set in the depth of a document, and the rest is kept")
    func setting() throws {
        let value = try parse(#"{"process":{"user":{"uid":1},"cwd":"/"},"x":[1]}"#)
        let changed = value.setting(["process", "user", "uid"], to: .integer(7))
            .setting(["linux", "cgroupsPath"], to: .string("/a"))
        #expect(
            String(decoding: changed.encoded(), as: UTF8.self)
                == #"{"process":{"user":{"uid":7},"cwd":"/"},"x":[1],"#
                + #""linux":{"cgroupsPath":"/a"}}"#)
    }
}

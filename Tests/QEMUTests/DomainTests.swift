internal import Testing
internal import VMControl

@testable internal import QEMU

@Suite struct XMLElementTests {
    @Test func whatHasAMeaningIsEscaped() {
        let element = XMLElement(
            "a", [("b", "\"<'&>\n\t")], text: "</a><evil attr='1'>&amp;", [XMLElement("c")])
        #expect(
            element.rendered
                == "<a b=\"&quot;&lt;&apos;&amp;&gt;&#10;&#9;\">&lt;/a&gt;&lt;evil"
                + " attr=&apos;1&apos;&gt;&amp;amp;<c/></a>")
    }

    @Test(arguments: ["\u{0}", "\u{1b}", "\u{ffff}"]) func whatXMLCannotHoldIsReplaced(text: String)
    {
        #expect(XMLElement.escaped("x\(text)y") == "x\u{fffd}y")
    }
}

@Suite struct DomainTests {
    private func document(_ change: (inout MachineConfiguration) -> Void = { _ in }) -> String {
        var configuration = MachineConfiguration(
            vcpus: 3, memoryMiB: 256, kvm: nil, kernel: FileIndex(rawValue: 0), commandLine: "quiet"
        )
        change(&configuration)
        return Domain(configuration: configuration, files: IsolatedProcess.files).document.rendered
    }

    @Test func aMachineIsEmulatedUnlessItWasGivenKVM() {
        #expect(document().hasPrefix("<domain type=\"qemu\""))
        #expect(document().contains("<cmdline>quiet nolapic_timer</cmdline>"))
        let kvm = document { $0.kvm = FileIndex(rawValue: 1) }
        #expect(kvm.hasPrefix("<domain type=\"kvm\""))
        #expect(kvm.contains("<cmdline>quiet</cmdline>"))
    }

    @Test func aCommandLineCannotLeaveItsElement() {
        let text = document { $0.commandLine = "a</cmdline></os><devices/>\"'&" }
        #expect(text.contains("a&lt;/cmdline&gt;&lt;/os&gt;&lt;devices/&gt;&quot;&apos;&amp;"))
        #expect(!text.contains("a</cmdline>"))
    }

    @Test func aDiskIsTheFileOfItsGroup() {
        let text = document {
            $0.disks = [
                .init(file: FileIndex(rawValue: 4), readOnly: true, serial: "layer\"/>"),
                .init(file: FileIndex(rawValue: 5), readOnly: false, serial: "scratch"),
            ]
        }
        #expect(text.contains("fdgroup=\"disk0\""))
        #expect(text.contains("<serial>layer&quot;/&gt;</serial>"))
        #expect(text.components(of: "<readonly/>") == 1)
        #expect(text.components(of: "fdgroup") == 2)
    }

    @Test func everyDeviceHasASlotOfItsOwn() {
        let text = document {
            $0.disks = [.init(file: FileIndex(rawValue: 4), readOnly: true, serial: "")]
            $0.entropy = true
            $0.balloon = .init()
            $0.vsock = .init(guestCID: 3, listener: FileIndex(rawValue: 5), hostPorts: [])
        }
        for slot in 1...3 { #expect(text.components(of: "slot=\"\(slot)\"") == 1) }
        #expect(text.contains("addr=0x4"))
    }

    @Test(arguments: [(0, "vda"), (25, "vdz"), (26, "vdaa"), (29, "vdad")])
    func disksAreNamedAsLibvirtDoes(index: Int, name: String) {
        #expect(Domain.target(index) == name)
    }
}

extension String {
    /// How often `part` is in it.
    fileprivate func components(of part: String) -> Int {
        split(separator: part, omittingEmptySubsequences: false).count - 1
    }
}

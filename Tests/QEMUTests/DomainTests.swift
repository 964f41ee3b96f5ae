import Testing

@testable import QEMU

@Suite struct XMLElementTests {
    @Test func whatHasAMeaningIsEscaped() {
        let element = XMLElement(
            "a", [("b", "\"<'&>\n\t")], text: "</a><evil attr='1'>&amp;", [XMLElement("c")])
        #expect(
            element.rendered
                == "<a b=\"&quot;&lt;&apos;&amp;&gt;&#10;&#9;\">&lt;/a&gt;&lt;evil attr=&apos;1&apos;"
                + "&gt;&amp;amp;<c/></a>")
    }

    @Test(arguments: ["\u{0}", "\u{1b}", "\u{ffff}"]) func whatXMLCannotHoldIsReplaced(text: String)
    {
        #expect(XMLElement.escaped("x\(text)y") == "x\u{fffd}y")
    }
}

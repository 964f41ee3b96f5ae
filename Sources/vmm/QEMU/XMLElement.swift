/// An element of an XML document as a value; what it holds is escaped when it is rendered.
struct XMLElement: Equatable {
    var name: String
    /// In this order.
    var attributes: [(name: String, value: String)]
    var children: [XMLElement]
    /// Text before the children.
    var text: String

    init(
        _ name: String, _ attributes: [(String, String)] = [], text: String = "",
        _ children: [XMLElement] = []
    ) {
        self.name = name
        self.attributes = attributes.map { (name: $0.0, value: $0.1) }
        self.children = children
        self.text = text
    }

    init(_ name: String, _ children: [XMLElement]) { self.init(name, [], children) }

    static func == (left: XMLElement, right: XMLElement) -> Bool {
        left.rendered == right.rendered
    }

    /// The document; characters that XML 1.0 (§2.2) has no way to write become U+FFFD.
    var rendered: String {
        var out = ""
        render(into: &out)
        return out
    }

    private func render(into out: inout String) {
        out += "<\(name)"
        for (name, value) in attributes { out += " \(name)=\"\(XMLElement.escaped(value))\"" }
        guard !children.isEmpty || !text.isEmpty else {
            out += "/>"
            return
        }
        out += ">" + XMLElement.escaped(text)
        for child in children { child.render(into: &out) }
        out += "</\(name)>"
    }

    static func escaped(_ text: String) -> String {
        var out = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": out += "&amp;"
            case "<": out += "&lt;"
            case ">": out += "&gt;"
            case "\"": out += "&quot;"
            case "'": out += "&apos;"
            // As they are, a parser would make spaces of them in an attribute.
            case "\t", "\n", "\r": out += "&#\(scalar.value);"
            case "\u{0}"..<"\u{20}", "\u{fffe}", "\u{ffff}": out += "\u{fffd}"
            default: out.unicodeScalars.append(scalar)
            }
        }
        return out
    }
}

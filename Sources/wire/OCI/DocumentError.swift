/// Why a JSON document from outside was refused: one line for a person.
package struct DocumentError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The document as its user knows it, such as `config.json`.
    package let document: String
    /// The field, such as `process.rlimits[2].type`; empty for the document as a whole.
    package let path: String
    package let reason: String

    /// Names the document, the field and what is wrong with it.
    package init(_ document: String, _ path: String, _ reason: String) {
        self.document = document
        self.path = path
        self.reason = reason
    }

    /// `config.json: process.args: must not be empty`.
    package var description: String {
        path.isEmpty ? "\(document): \(reason)" : "\(document): \(path): \(reason)"
    }
}

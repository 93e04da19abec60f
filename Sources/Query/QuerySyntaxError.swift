/// Why a text is no query. Nothing of the text is repeated but words of the language.
package struct QuerySyntaxError: Error, Equatable, Sendable, CustomStringConvertible {
    /// Where it went wrong: characters from 1; one more than there are when the text ended too early.
    package let position: Int
    /// What was wrong, in lower case without a full stop.
    package let reason: String

    package var description: String { "at character \(position): \(reason)" }
}

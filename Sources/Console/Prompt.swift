import Glibc

/// Questions to a person at a terminal.
package enum Prompt {
    /// Whether there is a person to ask.
    package static var isPossible: Bool { isatty(STDIN_FILENO) == 1 && isatty(STDERR_FILENO) == 1 }

    /// Asks before something is destroyed; scripts (no terminal) and `--yes` are not asked. A no is exit 1.
    package static func confirm(_ question: String, _ arguments: Arguments) throws(Failure) {
        guard isPossible, !arguments.flag("yes") else { return }
        let answer = try ask("\(question) [y/N] ").lowercased()
        guard answer == "y" || answer == "yes" else { throw .refused("nothing was changed") }
    }

    /// One line from the terminal; empty at its end.
    package static func ask(_ question: String) throws(Failure) -> String {
        try Output.flush()
        Output.writeToStandardError(Printable.oneLine(question))
        return readLine(strippingNewline: true) ?? ""
    }
}

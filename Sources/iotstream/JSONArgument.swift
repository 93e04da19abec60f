import Console
import Wire

/// JSON that a person gives on the command line, as text or as `@FILE`.
enum JSONArgument {
    /// - Parameter remedy: what to do when it is none.
    static func value(
        _ word: String, _ remedy: String = "write text in double quotes, and all of it in single ones for the shell"
    ) throws(Failure) -> JSONValue {
        let text = try InputFile.textOrFile(word, limit: 1 << 20)
        do throws(JSONError) { return try JSONValue.parse(text, depth: 40) } catch { throw .data("\(error)", remedy) }
    }
}

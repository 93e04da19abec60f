import Console
import Wire

/// JSON that a person gives on the command line, as text or as `@FILE`.
enum JSONArgument {
    /// - Parameter what: names it in an error.
    static func value(_ word: String, _ what: String) throws(Failure) -> JSONValue {
        let text = try InputFile.textOrFile(word, limit: 1 << 20)
        do throws(JSONError) {
            return try JSONValue.parse(text)
        } catch {
            throw .data("\(what) is not JSON: \(error)", "write text in double quotes, and all of it in single ones for the shell")
        }
    }
}

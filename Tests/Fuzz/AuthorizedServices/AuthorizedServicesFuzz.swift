import FuzzSupport
import Trust

@main
enum AuthorizedServicesFuzz {
    static func main() {
        runFuzzer(fuzzAuthorizedServices)
    }
}

private func fuzzAuthorizedServices(_ input: inout FuzzInput) {
    for line in LineFile.split(input.bytes) {
        do throws(AuthorizedLine.Malformed) {
            guard let read = try AuthorizedLine(parsing: line) else { continue }
            let spaced: AuthorizedLine?
            do throws(AuthorizedLine.Malformed) { spaced = try AuthorizedLine(parsing: "\t " + line + " \t") } catch { spaced = nil }
            check(spaced == read, "blanks around a line mean nothing")
            switch read {
            case .key(let fingerprint, _): check(line.utf8.count >= fingerprint.description.utf8.count, "a key stands in its line")
            case .authority(let path, let name):
                check(!path.isEmpty && !path.utf8.contains(0x20) && !path.utf8.contains(9), "a file is one word")
                check(name?.isEmpty != true, "a name is not empty")
            }
        } catch {
            check(!error.reason.isEmpty, "a bad line has a reason")
        }
    }
}

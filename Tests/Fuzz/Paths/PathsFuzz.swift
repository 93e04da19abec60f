import FuzzSupport
import Trust

@main
enum PathsFuzz {
    static func main() {
        runFuzzer(fuzzPaths)
    }
}

private func fuzzPaths(_ input: inout FuzzInput) {
    let text = String(decoding: input.bytes, as: UTF8.self)
    for line in text.split(separator: "\n") {
        guard let entry = PathMemory.Entry(parsing: String(line)) else { continue }
        check(entry.time >= 0, "a time is not negative")
        check(PathMemory.Entry(parsing: entry.line) == entry, "an entry is read as it is written")
    }
}

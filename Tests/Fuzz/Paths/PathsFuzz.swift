import FuzzSupport
import Trust

@main
enum PathsFuzz {
    static func main() {
        runFuzzer(fuzzPaths)
    }
}

private func fuzzPaths(_ input: inout FuzzInput) {
    for line in LineFile.split(input.bytes) {
        guard let entry = PathMemory.Entry(parsing: line) else { continue }
        check(entry.time >= 0, "a time is not negative")
        check(PathMemory.Entry(parsing: entry.line) == entry, "an entry is read as it is written")
    }
}

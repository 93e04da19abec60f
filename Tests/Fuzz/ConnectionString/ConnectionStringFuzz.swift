import FuzzSupport
import Wire

@main
enum ConnectionStringFuzz {
    static func main() {
        runFuzzer(fuzzConnectionString)
    }
}

private func fuzzConnectionString(_ input: inout FuzzInput) {
    guard let text = String(validating: input.bytes, as: UTF8.self) else { return }
    guard let string = try? ConnectionString(parsing: text) else { return }
    check((try? ConnectionString(parsing: string.text)) == string, "a connection string is read as it is written")
    _ = string.description
}

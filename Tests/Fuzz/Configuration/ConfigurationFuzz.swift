import FuzzSupport
import Wire

@main
enum ConfigurationFuzz {
    static func main() {
        runFuzzer(fuzzConfiguration)
    }
}

private let schema = ConfigurationSchema(
    keys: [
        .init("state", .text), .init("workers", .integer(1...64)), .init("drain-seconds", .seconds), .init("largest", .bytes),
        .init("rate", .rate), .init("audit", .boolean), .init("mode", .choice(["auto", "blind"])), .list("https", of: .address),
        .list("hostname"),
    ],
    sections: [
        .init("certificate", hasTitle: true, keys: [.init("file", .text), .init("key", .text)]),
        .init("limits", keys: [.init("streams", .integer(0...1000))]),
    ])

private func fuzzConfiguration(_ input: inout FuzzInput) {
    guard let text = String(validating: input.bytes, as: UTF8.self) else { return }
    if let number = ConfigurationValue.seconds(text) { check(number >= 0, "a time is not negative") }
    if let number = ConfigurationValue.bytes(text) { check(number >= 0, "a size is not negative") }
    if let rate = ByteRate.parse(text) {
        check((1...ByteRate.highest).contains(rate), "a rate is in its range")
        check(ByteRate.parse(ByteRate.text(rate)) == rate, "a rate is read as it is written")
    }
    if let address = ListenAddress(parsing: text) {
        check(ListenAddress(parsing: address.description) == address, "an address is read as it is written")
    }
    do throws(ConfigurationError) {
        let read = try Configuration(parsing: text, schema: schema)
        if let workers = read.top.integer("workers") { check((1...64).contains(workers), "a number is in its range") }
        let again = try? Configuration(parsing: text + "\n# the end\n", schema: schema)
        check(again == read, "a comment changes nothing")
    } catch {
        let lines = 1 + text.utf8.filter { $0 == UInt8(ascii: "\n") }.count
        check((1...lines).contains(error.line), "an error names a line that is there")
    }
}

import Audit
import Bytes
import FuzzSupport

@main
enum AuditLineFuzz {
    static func main() {
        runFuzzer(fuzzAuditLine)
    }
}

private func fuzzAuditLine(_ input: inout FuzzInput) {
    for line in input.bytes.split(separator: 10) {
        guard let event = AuditEvent(line: Array(line).span.bytes) else { continue }
        let written = event.line
        check(written.last == 10 && written.dropLast().allSatisfy { $0 >= 0x20 && $0 != 0x7F }, "an event is one line, fit for a terminal")
        check(written.count < AuditEvent.longestLine, "a line has its bounds")
        let again = AuditEvent(line: Array(written.dropLast()).span.bytes)
        check(again == event.bounded, "an event is read as it is written")
        check(again?.bounded == again, "bounds hold once")
    }
}

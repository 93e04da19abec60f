import Bytes
import FuzzSupport
import Telemetry

@main
enum TelemetryRecordFuzz {
    static func main() {
        runFuzzer(fuzzTelemetry)
    }
}

private let seal = RecordSeal(salt: 7)
private let offset: UInt64 = 4096

/// Everything that is read from the log's files. Checksums would keep the fuzzer out, so each input is tried as it is and with a
/// checksum that is right.
private func fuzzTelemetry(_ input: inout FuzzInput) {
    fuzzRecord(&input)
    var sealed = input.bytes
    if sealRecord(&sealed) {
        var sealedInput = FuzzInput(sealed)
        fuzzRecord(&sealedInput)
    }
    fuzzHeader(input.bytes)
    fuzzMark(input.bytes)
    if let position = ConsumerGroups.parse(input.bytes.span.bytes) {
        let text = "\(position.offset) \(position.sequence)\n"
        check(ConsumerGroups.parse(text.utf8Span.span.bytes) == position, "a position is read as it is written")
    }
}

private func fuzzRecord(_ input: inout FuzzInput) {
    let verdict = checkSplits(of: &input) { bytes in
        do throws(RecordHeader.Fault) {
            switch try RecordHeader.parse(bytes, at: offset, seal: seal) {
            case .needMoreData(let total): return (Verdict<RecordHeader>.more, total)
            case .complete(let header): return (.value(header, consumed: header.paddedLength), 0)
            }
        } catch { return (.refused("\(error)"), 0) }
    }
    guard case .value(let header, let consumed) = verdict else { return }
    check(consumed % 8 == 0 && consumed - header.length < 8, "a record is padded to a multiple of 8")
    guard let record = TelemetryRecord(header, at: offset, in: input.bytes.span.bytes) else { return }
    check(record.end.offset == offset + UInt64(consumed) && record.end.sequence == record.position.sequence + 1, "the next follows")
    check(record.body.count < header.length, "the body is in the record")
    _ = record.envelope.authentication?.json
}

/// Makes the input begin like a record, and gives it the checksum that it ought to have.
private func sealRecord(_ bytes: inout [UInt8]) -> Bool {
    guard bytes.count >= RecordHeader.size else { return false }
    while bytes.count % 8 != 0 { bytes.append(0) }
    put(RecordHeader.magic, &bytes, at: 0)
    let length = max(RecordHeader.size, bytes.count - Int(bytes[11] % 8))
    put(UInt32(length), &bytes, at: 8)
    let checksum = seal.checksum(of: bytes.span.bytes.extracting(0..<length), at: offset)
    put(checksum, &bytes, at: 4)
    return true
}

private func fuzzHeader(_ input: [UInt8]) {
    var bytes = input
    for isSealed in [false, true] {
        if isSealed {
            guard bytes.count >= SegmentHeader.size else { return }
            let checksum = Checksum.of(bytes.span.bytes.extracting(0..<56))
            put(checksum, &bytes, at: 56)
        }
        guard let header = try? SegmentHeader.parse(bytes.span.bytes) else { continue }
        check(header.bytes[..<60].elementsEqual(bytes[..<60]), "a header is written as it is read")
    }
}

private func fuzzMark(_ input: [UInt8]) {
    var bytes = input
    for isSealed in [false, true] {
        if isSealed {
            guard bytes.count >= DurableMark.size else { return }
            let checksum = Checksum.of(bytes.span.bytes.extracting(0..<92))
            put(checksum, &bytes, at: 92)
        }
        guard let mark = DurableMark(parsing: bytes.span.bytes) else { continue }
        let again = mark.bytes
        check(DurableMark(parsing: again.span.bytes) == mark, "a mark is read as it is written")
    }
}

private func put(_ number: UInt32, _ bytes: inout [UInt8], at place: Int) {
    for index in 0..<4 { bytes[place + index] = UInt8(truncatingIfNeeded: number >> (24 - 8 * UInt32(index))) }
}

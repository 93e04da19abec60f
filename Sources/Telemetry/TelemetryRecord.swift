import Bytes

/// A place between two records of a partition: where the next one begins.
package struct TelemetryPosition: Equatable, Sendable, Comparable {
    /// Bytes of records before it since the partition began.
    package var offset: UInt64
    /// Records before it since the partition began, which is the sequence number of the record that begins here.
    package var sequence: UInt64

    package init(offset: UInt64, sequence: UInt64) {
        self.offset = offset
        self.sequence = sequence
    }

    package static let zero = TelemetryPosition(offset: 0, sequence: 0)
    package static func < (one: Self, other: Self) -> Bool { one.offset < other.offset }
}

/// A message in the log.
package struct TelemetryRecord: Equatable, Sendable {
    /// Where it begins.
    package var position: TelemetryPosition
    /// Where the next one begins.
    package var end: TelemetryPosition
    /// When it was put into the log, milliseconds since 1970-01-01 UTC; never less than that of the record before.
    package var enqueuedMilliseconds: Int64
    package var envelope: TelemetryEnvelope
    package var body: [UInt8]
}

extension TelemetryRecord {
    /// The record whose header was parsed from the beginning of `bytes`; nil when its fields do not fit together.
    ///
    /// Keys, sources and kinds of authentication that a later release may have added are left out.
    package init?(_ header: RecordHeader, at offset: UInt64, in bytes: RawSpan) {
        guard header.length <= bytes.byteCount else { return nil }
        var fields = RecordFields(end: header.length)
        guard let deviceID = fields.text(header.deviceBytes, of: bytes), let moduleID = fields.text(header.moduleBytes, of: bytes)
        else { return nil }
        var envelope = TelemetryEnvelope(
            deviceID: deviceID, moduleID: header.moduleBytes > 0 ? moduleID : nil, source: header.source,
            authentication: TelemetryAuthentication(byte: header.authentication))
        for _ in 0..<header.systemCount {
            guard let code = fields.byte(of: bytes), let count = fields.count(of: bytes), let value = fields.text(count, of: bytes)
            else { return nil }
            if let key = TelemetryKey(rawValue: code) { envelope.system.append(.init(key, value)) }
        }
        for _ in 0..<header.applicationCount {
            guard let kind = fields.byte(of: bytes), let nameCount = fields.count(of: bytes), let valueCount = fields.count(of: bytes),
                let name = fields.text(nameCount, of: bytes), let value = fields.text(valueCount, of: bytes),
                kind == RecordHeader.textValue || kind == RecordHeader.nullValue && valueCount == 0
            else { return nil }
            envelope.application.append(.init(name, kind == RecordHeader.textValue ? value : nil))
        }
        guard let body = fields.range(header.bodyBytes), fields.isAtEnd else { return nil }
        self.init(
            position: TelemetryPosition(offset: offset, sequence: header.sequence),
            end: TelemetryPosition(offset: offset &+ UInt64(header.paddedLength), sequence: header.sequence &+ 1),
            enqueuedMilliseconds: header.milliseconds, envelope: envelope, body: bytes.extracting(body).toArray())
    }
}

/// Takes the fields after a record's header one after the other, and none beyond its end.
private struct RecordFields {
    private var next = RecordHeader.size
    private let end: Int

    init(end: Int) { self.end = end }

    var isAtEnd: Bool { next == end }

    mutating func range(_ count: Int) -> Range<Int>? {
        guard count >= 0, next <= end, count <= end - next else { return nil }
        defer { next += count }
        return next..<next + count
    }

    mutating func byte(of bytes: RawSpan) -> UInt8? { range(1).map { bytes.byte(at: $0.lowerBound) } }
    mutating func count(of bytes: RawSpan) -> Int? { range(2).map { Int(bytes.bigEndian(at: $0.lowerBound, as: UInt16.self)) } }
    mutating func text(_ count: Int, of bytes: RawSpan) -> String? { range(count).flatMap { bytes.extracting($0).toString() } }
}

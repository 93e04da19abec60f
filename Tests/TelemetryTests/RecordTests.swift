import Bytes
import CLinux
import Glibc
import LinuxIO
import Telemetry
import Testing

@Suite struct RecordTests {
    private static let full = TelemetryEnvelope(
        deviceID: "press-17", moduleID: "m+1", source: .twinChange,
        authentication: TelemetryAuthentication(.module, .x509, issuer: .external),
        system: TelemetryKey.allCases.map { .init($0, "value of \($0.name)") },
        application: [
            .init("a b", "c/d+e"), .init("null", nil), .init("empty", ""), .init("é", "ü"), .init("twice", "1"), .init("twice", "2"),
        ])

    private static let envelopes: [(TelemetryEnvelope, [UInt8])] = [
        (TelemetryEnvelope(deviceID: "d"), []),
        (TelemetryEnvelope(deviceID: ""), [1]),
        (full, Array("body".utf8)),
        (TelemetryEnvelope(deviceID: "d", application: (0..<1000).map { .init("\($0)", String(repeating: "v", count: $0)) }), [0]),
        (
            TelemetryEnvelope(deviceID: "d", system: [.init(.messageID, String(repeating: "m", count: 65535))]),
            .init(repeating: 7, count: 9)
        ),
        (TelemetryEnvelope(deviceID: "d"), .init(repeating: 0xEE, count: 262_144)),
    ]

    @Test func readsBackWhatWasWritten() throws {
        let place = try Place()
        let log = try place.open()
        for (envelope, body) in Self.envelopes {
            #expect(log.submit(envelope, body) { _ in } == .accepted)
        }
        log.close()
        let records = try place.readAll()
        #expect(records.map(\.envelope) == Self.envelopes.map(\.0))
        #expect(records.map(\.body) == Self.envelopes.map(\.1))
        #expect(records.map(\.position.sequence) == Array(0..<UInt64(Self.envelopes.count)))
    }

    @Test func refusesFieldsAndRecordsThatAreTooLong() throws {
        let place = try Place()
        let log = try place.open()
        defer { log.close() }
        let long = String(repeating: "x", count: 65536)
        for envelope in [
            TelemetryEnvelope(deviceID: long), TelemetryEnvelope(deviceID: "d", moduleID: long),
            TelemetryEnvelope(deviceID: "d", system: [.init(.to, long)]), TelemetryEnvelope(deviceID: "d", application: [.init(long, nil)]),
            TelemetryEnvelope(deviceID: "d", application: [.init("n", long)]),
            TelemetryEnvelope(deviceID: "d", application: .init(repeating: .init("n", "v"), count: 65536)),
        ] { #expect(log.submit(envelope, [UInt8]()) { _ in } == .refused(.tooLarge)) }
        let body = [UInt8](repeating: 1, count: RecordHeader.longest - RecordHeader.size)
        #expect(log.submit(TelemetryEnvelope(deviceID: "d"), body) { _ in } == .refused(.tooLarge))
        #expect(log.submit(TelemetryEnvelope(deviceID: ""), body) { _ in } == .accepted)
    }

    /// The bytes of one record, its segment's seal and its offset.
    private func sample() throws -> (bytes: [UInt8], seal: RecordSeal, offset: UInt64) {
        let place = try Place()
        let log = try place.open()
        log.append(["first"])
        _ = log.submit(Self.full, [1, 2, 3, 4]) { _ in }
        log.close()
        let bytes = try contents(place.newestSegment())
        let offset = try place.readAll()[1].position.offset
        let seal = try SegmentHeader.parse(bytes).seal
        return (Array(bytes[(SegmentHeader.size + Int(offset))...]), seal, offset)
    }

    @Test func asksForMoreUntilTheRecordIsWhole() throws {
        let (bytes, seal, offset) = try sample()
        for count in 0..<bytes.count {
            guard case .needMoreData(let total) = try RecordHeader.parse(Array(bytes[..<count]), at: offset, seal: seal) else {
                Issue.record("complete with \(count) bytes of \(bytes.count)")
                return
            }
            #expect(total > count && total <= bytes.count)
        }
        guard case .complete(let header) = try RecordHeader.parse(bytes, at: offset, seal: seal) else {
            Issue.record("not complete")
            return
        }
        #expect(header.paddedLength == bytes.count)
        #expect(TelemetryRecord(header, at: offset, in: bytes.span.bytes)?.envelope == Self.full)
    }

    @Test func noticesEveryFlippedBit() throws {
        let (bytes, seal, offset) = try sample()
        var padding = 0
        for index in bytes.indices {
            for bit in 0..<8 {
                var bent = bytes
                bent[index] ^= 1 << bit
                let parsed = try? RecordHeader.parse(bent, at: offset, seal: seal)
                if case .complete(let header) = parsed {
                    #expect(index >= header.length, "only padding may change")
                    padding += 1
                }
            }
        }
        #expect(padding < 64)
    }

    @Test func isNoRecordAtAnotherPlaceOrInAnotherSegment() throws {
        let (bytes, seal, offset) = try sample()
        #expect(throws: RecordHeader.Fault.badChecksum) { try RecordHeader.parse(bytes, at: offset + 8, seal: seal) }
        #expect(throws: RecordHeader.Fault.badChecksum) {
            try RecordHeader.parse(bytes, at: offset, seal: RecordSeal(salt: 1))
        }
    }

    @Test func computesTheChecksumOfTheStandardAndTheSameWithoutTheInstruction() {
        // RFC 3720 appendix B.4, and the usual check value.
        #expect(Checksum.of(Array("123456789".utf8)) == 0xE306_9283)
        #expect(Checksum.of([UInt8](repeating: 0, count: 32)) == 0x8A91_36AA)
        #expect(Checksum.of([UInt8](repeating: 0xFF, count: 32)) == 0x62A8_AB43)
        #expect(Checksum.of([UInt8](0..<32)) == 0x46DD_794E)
        let bytes = (0..<300).map { UInt8(truncatingIfNeeded: $0 &* 167) }
        for start in 0..<9 {
            for end in start..<300 {
                let part = Array(bytes[start..<end])
                #expect(clx_crc32c(UInt32(start), part, part.count) == clx_crc32c_by_table(UInt32(start), part, part.count))
            }
        }
    }

    @Test func noticesEveryFlippedBitOfASegmentsHeader() throws {
        let header = SegmentHeader(
            partition: 3, first: TelemetryPosition(offset: 4096, sequence: 17), milliseconds: 1_700_000_000_000,
            log: LogIdentifier(high: 1, low: 2))
        let bytes = header.bytes
        #expect(bytes.count == SegmentHeader.size)
        #expect(try SegmentHeader.parse(bytes) == header)
        for count in 0..<bytes.count {
            #expect(throws: SegmentHeader.Fault.cutShort) { try SegmentHeader.parse(Array(bytes[..<count])) }
        }
        for index in 0..<60 {
            for bit in 0..<8 {
                var bent = bytes
                bent[index] ^= 1 << bit
                #expect(throws: SegmentHeader.Fault.self) { try SegmentHeader.parse(bent) }
            }
        }
        var later = bytes
        later[9] = 2
        #expect(throws: SegmentHeader.Fault.newer(version: 2)) { try SegmentHeader.parse(later) }
    }

    @Test(arguments: [
        (TelemetryAuthentication(.device, .sas), #"{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}"#),
        (TelemetryAuthentication(.module, .x509), #"{"scope":"module","type":"x509","issuer":"iothub","acceptingIpFilterRule":null}"#),
        (
            TelemetryAuthentication(.hub, .sas, issuer: .external),
            #"{"scope":"hub","type":"sas","issuer":"external","acceptingIpFilterRule":null}"#
        ),
    ])
    func saysHowTheSenderWasAuthenticated(_ authentication: TelemetryAuthentication, _ json: String) {
        #expect(authentication.json == json)
    }

    @Test func spreadsDevicesEvenlyAndAlwaysAlike() throws {
        let place = try Place()
        let log = try place.open { $0.partitions = 4 }
        log.close()
        let directory = try LogDirectory(place.path)
        // CRC-32C modulo 4; iotstream-telemetry(5) has the same.
        #expect(["d1", "press-17", "", "Gerät", "thermostat"].map { directory.partition(of: $0) } == [2, 1, 0, 1, 2])
        var counts = [0, 0, 0, 0]
        for number in 0..<10000 { counts[directory.partition(of: "device-\(number)")] += 1 }
        #expect(counts.allSatisfy { 2200...2800 ~= $0 })
    }
}

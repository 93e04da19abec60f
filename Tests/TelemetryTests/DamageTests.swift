import Bytes
import Glibc
import LinuxIO
import Telemetry
import Testing

@Suite struct DamageTests {
    let place: Place

    init() throws { place = try Place() }

    private static let texts = (0..<200).map { "message \($0) " + String(repeating: "x", count: 2000) }

    private static func small(_ options: inout TelemetryLog.Options) { options.segmentBytes = 100_000 }

    /// Five segments with indexes of two entries, and all records as they were written.
    private func fill() throws -> [TelemetryRecord] {
        let log = try place.open(Self.small)
        log.appendEach(Self.texts)
        log.close()
        let records = try place.readAll()
        #expect(records.map(\.text) == Self.texts)
        #expect(try place.segments().count == 5)
        return records
    }

    /// Reads over all damage: the texts, the damage and what was missed.
    private func readOver(_ reader: TelemetryReader) throws -> (texts: [String], damage: [TelemetryDamage], missed: UInt64) {
        var texts: [String] = [], damage: [TelemetryDamage] = [], missed: UInt64 = 0
        while true {
            do throws(TelemetryError) {
                let batch = try reader.read()
                texts += batch.records.map(\.text)
                missed += batch.missed
                if batch.isAtEnd { return (texts, damage, missed) }
            } catch {
                guard case .damaged(let found) = error else { throw error }
                damage.append(found)
                reader.skipDamage()
            }
        }
    }

    @Test func readsTheRestOfASegmentThatIsDamagedInTheMiddle() throws {
        let records = try fill()
        let path = try place.segments()[1]
        let bent = try #require(records.first { $0.position.sequence == 60 })
        let base = try SegmentHeader.parse(contents(path)).first.offset
        poke(path, at: SegmentHeader.size + Int(bent.position.offset - base) + 100, [0])
        let log = try place.open(Self.small)
        #expect(log.findings[0].isClean)  // only the newest is looked into
        let expected = TelemetryDamage(path: path, partition: 0, offset: bent.position.offset, resumesAt: bent.end.offset)
        for reader in [try log.reader(of: 0, from: .earliest), try TelemetryReader(log.directory, partition: 0, from: .earliest)] {
            let (texts, damage, missed) = try readOver(reader)
            #expect(texts == Array(Self.texts[..<60] + Self.texts[61...]))
            #expect(damage == [expected])
            #expect(missed == 1)
        }
        // To begin behind it is no error.
        let (texts, damage, _) = try readOver(log.reader(of: 0, from: .sequence(61, inclusive: true)))
        #expect(texts == Array(Self.texts[61...]) && damage.isEmpty)
        log.close()
    }

    @Test func goesOnAtTheNextSegmentWhenOneIsCutShortOrUnreadableOrGone() throws {
        let records = try fill()
        let paths = try place.segments(), whole = try contents(paths[1])
        let bases = try paths.map { try SegmentHeader.parse(contents($0)).first }
        let cut = try #require(records.first { $0.position.offset >= bases[1].offset + 50_000 })

        write(Array(whole[..<(SegmentHeader.size + Int(cut.position.offset - bases[1].offset) + 10)]), to: paths[1])
        let log = try place.open(Self.small)
        func damage(at offset: UInt64) -> [TelemetryDamage] {
            [TelemetryDamage(path: paths[1], partition: 0, offset: offset, resumesAt: bases[2].offset)]
        }
        var found = try readOver(log.reader(of: 0, from: .earliest))
        #expect(found.damage == damage(at: cut.position.offset))
        #expect(found.missed == bases[2].sequence - cut.position.sequence)
        #expect(found.texts.count == 200 - Int(found.missed))

        write([1, 2, 3] + whole[3...], to: paths[1])
        found = try readOver(log.reader(of: 0, from: .earliest))
        #expect(found.damage == damage(at: bases[1].offset))
        #expect(found.missed == bases[2].sequence - bases[1].sequence)

        unlink(paths[1])
        found = try readOver(log.reader(of: 0, from: .earliest))
        #expect(found.texts.count == 200 - Int(found.missed) && found.missed == bases[2].sequence - bases[1].sequence)
        log.close()

        write(Array(whole[..<20]), to: paths[1])
        let again = try place.open(Self.small)
        again.append(["new"])
        again.close()
        #expect(try readOver(TelemetryReader(again.directory, partition: 0, from: .earliest)).texts.count == found.texts.count + 1)
    }

    @Test func neverUsesANumberAgainWhenTheNewestSegmentCannotBeRead() throws {
        let records = try fill()
        let newest = try place.newestSegment()
        poke(newest, at: 3, [0xFF])
        for mark in [true, false] {
            if !mark { unlink("\(place.path)/0/mark") }
            let log = try place.open(Self.small)
            #expect(log.findings[0].damage.count == (mark ? 1 : 0))
            let position = try #require(try log.append(["new"]).first?.get())
            #expect(position.sequence >= 200)
            #expect(position.offset >= records.last?.end.offset ?? 0)
            log.close()
        }
        let found = try readOver(TelemetryReader(LogDirectory(place.path), partition: 0, from: .earliest))
        #expect(found.texts.suffix(2) == ["new", "new"])
        #expect(found.damage.map(\.path) == [newest])
    }

    @Test func rebuildsAnIndexThatIsLostOrWrong() throws {
        let records = try fill()
        let paths = try place.indexes(), good = try paths.map { try contents($0) }
        #expect(good.allSatisfy { $0.count == 64 || $0.isEmpty || $0.count == 32 })
        let kinds: [([UInt8]) -> [UInt8]?] = [
            { _ in nil }, { _ in [] }, { $0.dropLast(5) }, { $0.map { $0 ^ 0x10 } }, { _ in .init(repeating: 0, count: 320) },
            { Array($0.suffix(32) + $0.prefix(32)) }, { _ in good[0] },
        ]
        for kind in kinds {
            for (path, bytes) in zip(paths, good) {
                if let bent = kind(bytes) { write(bent, to: path) } else { unlink(path) }
            }
            // In another process, which cannot mend it.
            #expect(try place.readAll(from: .sequence(77, inclusive: true)).first == records[77])
            let log = try place.open(Self.small)
            for number in [0, 1, 60, 99, 150, 199] {
                #expect(
                    try log.reader(of: 0, from: .sequence(UInt64(number), inclusive: true)).read(records: 1).records == [records[number]])
                #expect(
                    try log.reader(of: 0, from: .offset(records[number].position.offset, inclusive: true)).position
                        == records[number].position)
            }
            #expect(try log.bounds(of: 0).end == records.last?.end)
            log.close()
        }
        // The keeper has made those of older segments anew as soon as it came to them.
        for path in paths { unlink(path) }
        let log = try place.open(Self.small), started = Clock.milliseconds
        while try place.indexes().count < 5, Clock.milliseconds - started < 10_000 { sched_yield() }
        log.close()
        #expect(try place.indexes().count == 5)
    }

    @Test func beginsAnewWhereTheMarkEndsWhenAllSegmentsAreGone() throws {
        let records = try fill()
        for path in try place.segments() { unlink(path) }
        let log = try place.open(Self.small)
        #expect(log.findings[0].damage.count == 1)
        #expect(try log.append(["new"]).first?.get() == records.last?.end)
        #expect(try log.reader(of: 0, from: .earliest).readAll().map(\.text) == ["new"])
        log.close()
    }

    @Test func takesNoRecordFromABodyThatLooksLikeOne() throws {
        let log = try place.open()
        log.append(["first"])
        let real = try contents(place.newestSegment())
        let record = Array(real[SegmentHeader.size...].prefix(64))
        // Copies of a record at every place, in the body of a message whose own beginning is then damaged.
        let body = Array([[UInt8]](repeating: record, count: 200).joined())
        let done = Semaphore()
        for bytes in [body, Array("last".utf8)] {
            _ = log.submit(TelemetryEnvelope(deviceID: "evil"), bytes) { _ in done.signal() }
            done.wait()
        }
        let records = try log.reader(of: 0, from: .earliest).readAll()
        poke(try place.newestSegment(), at: SegmentHeader.size + Int(records[1].position.offset) + 20, [0xFF])
        let found = try readOver(log.reader(of: 0, from: .earliest))
        #expect(found.texts == ["first", "last"])
        #expect(found.damage.map(\.resumesAt) == [records[2].position.offset])
        log.close()
    }
}

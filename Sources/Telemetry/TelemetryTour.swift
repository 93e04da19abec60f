import LinuxIO

/// A record, and the partition that it is in.
package struct PlacedRecord: Equatable, Sendable {
    package var partition: Int
    package var record: TelemetryRecord
}

/// What a round over some partitions has brought.
package struct TelemetryRound: Equatable, Sendable {
    /// In each partition's order, and by their times as far as that allows.
    package var records: [PlacedRecord] = []
    /// Records that are no more, or could not be read.
    package var missed: UInt64 = 0
    /// Parts of the log that were passed over because they cannot be read.
    package var damage: [TelemetryDamage] = []
    /// There was nothing more to read in any partition.
    package var isAtEnd = true
}

/// Reads several partitions in rounds, for whoever wants to see messages of all of them. Every call may block on the disk.
package final class TelemetryTour: Sendable {
    private let readers: [TelemetryReader]

    package init(_ readers: [TelemetryReader]) { self.readers = readers }

    /// Where the next round begins.
    package var places: TelemetryPlaces {
        TelemetryPlaces(Dictionary(readers.map { ($0.partition, $0.position) }, uniquingKeysWith: { first, _ in first }))
    }

    /// Reads from each partition: at most so many records in all, and about so many bytes.
    ///
    /// - Parameter isWanted: tells by its header which records to keep.
    package func read(
        records: Int = 256, bytes: Int = 1 << 20, where isWanted: (TelemetryEnvelope) -> Bool = { _ in true }
    ) throws(TelemetryError) -> TelemetryRound {
        var round = TelemetryRound()
        let share = max(1, records / max(1, readers.count)), byteShare = max(1, bytes / max(1, readers.count))
        for reader in readers {
            do throws(TelemetryError) {
                let batch = try reader.read(records: share, bytes: byteShare)
                round.missed &+= batch.missed
                if !batch.isAtEnd { round.isAtEnd = false }
                for record in batch.records where isWanted(record.envelope) {
                    round.records.append(PlacedRecord(partition: reader.partition, record: record))
                }
            } catch {
                guard case .damaged(let damage) = error else { throw error }
                round.damage.append(damage)
                round.isAtEnd = false
                reader.skipDamage()
            }
        }
        // Stable in each partition: its times never go back.
        round.records.sort {
            ($0.record.enqueuedMilliseconds, $0.partition, $0.record.position.sequence)
                < ($1.record.enqueuedMilliseconds, $1.partition, $1.record.position.sequence)
        }
        return round
    }
}

/// Where a reader of several partitions stands in each of them.
///
/// Its text, `0.4096.17-1.0.0`, has partition, offset and sequence number of each; readers give it back and need not understand it.
package struct TelemetryPlaces: Equatable, Sendable {
    package var positions: [Int: TelemetryPosition]

    package init(_ positions: [Int: TelemetryPosition] = [:]) { self.positions = positions }

    package var text: String {
        positions.sorted { $0.key < $1.key }.map { "\($0.key).\($0.value.offset).\($0.value.sequence)" }.joined(separator: "-")
    }

    /// Nil when the text is none.
    package init?(_ text: String) {
        var positions: [Int: TelemetryPosition] = [:]
        for part in text.split(separator: "-", maxSplits: LogDirectory.mostPartitions, omittingEmptySubsequences: false) {
            let numbers = part.split(separator: ".", omittingEmptySubsequences: false).map { UInt64($0) }
            guard numbers.count == 3, let partition = numbers[0], let offset = numbers[1], let sequence = numbers[2],
                partition < UInt64(LogDirectory.mostPartitions),
                positions.updateValue(TelemetryPosition(offset: offset, sequence: sequence), forKey: Int(partition)) == nil
            else { return nil }
        }
        self.positions = positions
    }
}

import Bytes

/// What is the same in message after message of one sender: a record without its body, made once.
package struct TelemetryTemplate: Sendable {
    let deviceID: String
    /// Header and fields.
    let head: [UInt8]

    /// Nil when a field, or all of them together, are too long.
    package init?(_ envelope: TelemetryEnvelope) {
        guard let length = envelope.recordLength(bodyBytes: 0) else { return nil }
        var queue = ByteQueue()
        envelope.encode(into: &queue, length: length, body: RawSpan())
        deviceID = envelope.deviceID
        head = queue.withBytes { $0.extracting(0..<length).toArray() }
    }
}

/// Messages of one device that go into the log together, one behind the other, all of them or none.
package struct TelemetryBundle: ~Copyable, Sendable {
    /// Whose messages they are; it decides the partition.
    package let deviceID: String
    package private(set) var count = 0
    /// Records one after the other, without places, times and checksums.
    var bytes = ByteQueue()
    /// Where the last record begins.
    private(set) var lastPlace = 0

    package init(of deviceID: String) { self.deviceID = deviceID }

    /// Adds a message; false when it is too large, and then nothing is added.
    ///
    /// - Parameter template: of the same device.
    package mutating func append(_ template: TelemetryTemplate, body: RawSpan) -> Bool {
        precondition(template.deviceID == deviceID, "a bundle has one device's messages")
        let length = template.head.count + body.byteCount
        guard body.byteCount <= RecordHeader.longest, length <= RecordHeader.longest else { return false }
        let padded = RecordHeader.padded(length)
        let room = bytes.reserve(padded)
        template.head.withUnsafeBytes { room.copyMemory(from: $0) }
        room.storeBytes(of: UInt32(length).bigEndian, toByteOffset: RecordHeader.lengthPlace, as: UInt32.self)
        room.storeBytes(of: UInt32(body.byteCount).bigEndian, toByteOffset: RecordHeader.bodyBytesPlace, as: UInt32.self)
        body.withUnsafeBytes { UnsafeMutableRawBufferPointer(rebasing: room[template.head.count..<padded]).copyMemory(from: $0) }
        for place in length..<padded { room[place] = 0 }
        lastPlace = bytes.count
        bytes.commit(padded)
        count += 1
        return true
    }
}

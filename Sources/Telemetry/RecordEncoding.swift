import Bytes

extension TelemetryEnvelope {
    /// Bytes of the record that this and a body make, without padding; nil when it, or one of its fields, is too long.
    func recordLength(bodyBytes: Int) -> Int? {
        let longestField = Int(UInt16.max)
        var length = RecordHeader.size + deviceID.utf8.count + (moduleID?.utf8.count ?? 0)
        guard deviceID.utf8.count <= longestField, moduleID?.utf8.count ?? 0 <= longestField, bodyBytes <= RecordHeader.longest,
            system.count <= longestField, application.count <= longestField
        else { return nil }
        for property in system {
            guard property.value.utf8.count <= longestField else { return nil }
            length += 3 + property.value.utf8.count
        }
        for property in application {
            let value = property.value?.utf8.count ?? 0
            guard property.name.utf8.count <= longestField, value <= longestField else { return nil }
            length += 5 + property.name.utf8.count + value
        }
        length += bodyBytes
        return length <= RecordHeader.longest ? length : nil
    }

    /// Appends a record of `length` bytes, as `recordLength` told, and its padding. The place, the time and the checksum are left for
    /// `RecordStamp`.
    func encode(into queue: inout ByteQueue, length: Int, body: RawSpan) {
        let padded = RecordHeader.padded(length)
        var pen = RecordPen(queue.reserve(padded), count: padded)
        pen.write(RecordHeader.magic)
        pen.write(UInt32(0))
        pen.write(UInt32(length))
        pen.write(UInt32(0))
        pen.write(UInt64(0))
        pen.write(UInt64(0))
        pen.write(source.rawValue)
        pen.write(authentication?.byte ?? 0)
        pen.write(UInt16(deviceID.utf8.count))
        pen.write(UInt16(moduleID?.utf8.count ?? 0))
        pen.write(UInt16(system.count))
        pen.write(UInt16(application.count))
        pen.write(UInt16(0))
        pen.write(UInt32(body.byteCount))
        pen.write(deviceID)
        if let moduleID { pen.write(moduleID) }
        for property in system {
            pen.write(property.key.rawValue)
            pen.write(UInt16(property.value.utf8.count))
            pen.write(property.value)
        }
        for property in application {
            pen.write(property.value == nil ? RecordHeader.nullValue : RecordHeader.textValue)
            pen.write(UInt16(property.name.utf8.count))
            pen.write(UInt16(property.value?.utf8.count ?? 0))
            pen.write(property.name)
            if let value = property.value { pen.write(value) }
        }
        pen.write(body)
        precondition(pen.next == length, "a record is as long as it was counted")
        while pen.next < padded { pen.write(UInt8(0)) }
        queue.commit(padded)
    }
}

/// Writes one thing after another into memory that was measured before.
private struct RecordPen {
    private let memory: UnsafeMutableRawBufferPointer
    private(set) var next = 0

    init(_ memory: UnsafeMutableRawBufferPointer, count: Int) { self.memory = UnsafeMutableRawBufferPointer(rebasing: memory[..<count]) }

    mutating func write<Integer: FixedWidthInteger & BitwiseCopyable>(_ value: Integer) {
        precondition(MemoryLayout<Integer>.size <= memory.count - next)
        memory.storeBytes(of: value.bigEndian, toByteOffset: next, as: Integer.self)
        next += MemoryLayout<Integer>.size
    }

    mutating func write(_ bytes: RawSpan) {
        precondition(bytes.byteCount <= memory.count - next)
        bytes.withUnsafeBytes { UnsafeMutableRawBufferPointer(rebasing: memory[next...]).copyMemory(from: $0) }
        next += bytes.byteCount
    }

    mutating func write(_ text: String) { write(text.utf8Span.span.bytes) }
}

/// Where a commit begins and when it is made: what the writer adds to each record of it.
struct RecordStamp {
    let commit: TelemetryPosition
    let milliseconds: Int64
    let seal: RecordSeal

    /// Completes the records of a commit, which lie in `bytes` one after the other, and returns where the commit ends.
    func complete(_ bytes: UnsafeMutableRawBufferPointer) -> TelemetryPosition {
        var next = 0, sequence = commit.sequence
        while next + RecordHeader.size <= bytes.count {
            let length = Int(UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: next + 8, as: UInt32.self)))
            precondition(length >= RecordHeader.size && RecordHeader.padded(length) <= bytes.count - next)
            bytes.storeBytes(of: UInt32(next).bigEndian, toByteOffset: next + 12, as: UInt32.self)
            bytes.storeBytes(of: sequence.bigEndian, toByteOffset: next + 16, as: UInt64.self)
            bytes.storeBytes(of: milliseconds.bigEndian, toByteOffset: next + 24, as: Int64.self)
            let record = UnsafeRawBufferPointer(rebasing: bytes[next..<next + length])
            let checksum = seal.checksum(of: record.bytes, at: commit.offset + UInt64(next))
            bytes.storeBytes(of: checksum.bigEndian, toByteOffset: next + 4, as: UInt32.self)
            sequence += 1
            next += RecordHeader.padded(length)
        }
        return TelemetryPosition(offset: commit.offset + UInt64(next), sequence: sequence)
    }
}

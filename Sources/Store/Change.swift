import Bytes

/// One entry of the change log, written in the transaction of the change itself.
///
///     kind 1 | aspects 2 | length 2, device | length 2, module | length 2, name        integers big-endian, text UTF-8
package struct Change: Equatable, Sendable {
    /// What happened. A number that this release does not know means "something changed": read anew.
    package struct Kind: RawRepresentable, Hashable, Sendable {
        package let rawValue: UInt8
        package init(rawValue: UInt8) { self.rawValue = rawValue }

        package static let identityCreated = Kind(rawValue: 1)
        package static let identityUpdated = Kind(rawValue: 2)
        package static let identityDeleted = Kind(rawValue: 3)
        package static let policyCreated = Kind(rawValue: 4)
        package static let policyUpdated = Kind(rawValue: 5)
        package static let policyDeleted = Kind(rawValue: 6)
        package static let twinUpdated = Kind(rawValue: 7)
        package static let quotaUpdated = Kind(rawValue: 8)
        /// Something waits for a device that may have waited for it.
        package static let messageQueued = Kind(rawValue: 9)
        /// A scheduled job was made or cancelled; `name` is its id.
        package static let jobUpdated = Kind(rawValue: 10)
        /// A configuration was made, changed or removed; `name` is its id.
        package static let configurationUpdated = Kind(rawValue: 11)
        /// An import or export job was made or cancelled; `name` is its id.
        package static let transferUpdated = Kind(rawValue: 12)
        /// An authority for devices' certificates was made, changed, verified or removed; `name` is its name.
        package static let authorityUpdated = Kind(rawValue: 13)
    }

    /// Which parts of the thing changed.
    package struct Aspects: OptionSet, Hashable, Sendable {
        package let rawValue: UInt16
        package init(rawValue: UInt16) { self.rawValue = rawValue }

        /// Enabled or disabled.
        package static let status = Aspects(rawValue: 1)
        /// Keys, thumbprints, or the way of attestation.
        package static let authentication = Aspects(rawValue: 2)
        /// Capabilities, scopes, who manages a module.
        package static let relations = Aspects(rawValue: 4)
        package static let tags = Aspects(rawValue: 8)
        package static let desired = Aspects(rawValue: 16)
        /// A policy's rights.
        package static let rights = Aspects(rawValue: 32)
    }

    package var kind: Kind
    package var aspects: Aspects
    /// Empty where it does not apply.
    package var device, module: String
    /// A policy's name.
    package var name: String
    /// Its place in the log, counted from 1; 0 before it is written.
    package internal(set) var sequence: UInt64 = 0

    package init(_ kind: Kind, device: String = "", module: String = "", name: String = "", aspects: Aspects = []) {
        self.kind = kind
        self.aspects = aspects
        self.device = device
        self.module = module
        self.name = name
    }

    func encoded() -> [UInt8] {
        var bytes: [UInt8] = [kind.rawValue, UInt8(aspects.rawValue >> 8), UInt8(aspects.rawValue & 0xFF)]
        for text in [device, module, name] {
            let text = text.utf8.prefix(Int(UInt16.max))
            bytes.append(UInt8(text.count >> 8))
            bytes.append(UInt8(text.count & 0xFF))
            bytes.append(contentsOf: text)
        }
        return bytes
    }

    /// Nil when the record is not one.
    init?(_ bytes: RawSpan, sequence: UInt64) {
        guard bytes.byteCount >= 3 else { return nil }
        kind = Kind(rawValue: bytes.byte(at: 0))
        aspects = Aspects(rawValue: bytes.bigEndian(at: 1, as: UInt16.self))
        var texts: [String] = []
        var offset = 3
        while texts.count < 3 {
            guard bytes.byteCount - offset >= 2 else { return nil }
            let length = Int(bytes.bigEndian(at: offset, as: UInt16.self))
            offset += 2
            guard bytes.byteCount - offset >= length,
                let text = bytes.extracting(offset..<(offset + length)).toString()
            else { return nil }
            texts.append(text)
            offset += length
        }
        (device, module, name) = (texts[0], texts[1], texts[2])
        self.sequence = sequence
    }
}

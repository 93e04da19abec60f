import Store
import Wire

/// What a device's streams may take. Module streams count as their device's.
package struct Quota: Equatable, Sendable {
    /// One limit of it.
    package enum Limit: Equatable, Sendable {
        /// As the hub's configuration says for all devices.
        case usual
        /// Not limited, whatever the configuration says.
        case none
        case most(Int)

        /// The number that holds; nil when nothing limits.
        package func most(usually usual: Int?) -> Int? {
            switch self {
            case .usual: usual
            case .none: nil
            case .most(let number): number
            }
        }
    }

    /// Which limits there are.
    package enum Aspect: String, CaseIterable, Sendable {
        /// Bytes per second of all streams together, both directions.
        case rate
        /// The same of each stream.
        case streamRate
        /// Streams at once.
        case streams
        /// New streams in one second.
        case newStreamsPerSecond

        package var range: ClosedRange<Int> {
            switch self {
            case .rate, .streamRate: 1...ByteRate.highest
            case .streams, .newStreamsPerSecond: 1...1_000_000
            }
        }
    }

    private var limits: [Aspect: Limit] = [:]

    package init() {}

    package subscript(aspect: Aspect) -> Limit {
        get { limits[aspect] ?? .usual }
        set { limits[aspect] = newValue == .usual ? nil : newValue }
    }

    /// Whether it says nothing of its own.
    package var isUsual: Bool { limits.isEmpty }

    /// `{"rate":1000000,"streamRate":"none","streams":null,"newStreamsPerSecond":null}`; null: as usual. Other members are ignored.
    package init(json: JSONValue) throws(RegistryError) {
        guard case .object = json else { throw .argumentInvalid("a quota is a JSON object") }
        for aspect in Aspect.allCases {
            guard let value = json[aspect.rawValue], !value.isNull else { continue }
            if value.string == "none" {
                limits[aspect] = Limit.none
            } else if let number = value.integer.flatMap({ Int(exactly: $0) }), aspect.range.contains(number) {
                limits[aspect] = .most(number)
            } else {
                throw .argumentInvalid(
                    "\(aspect.rawValue) is a number from \(aspect.range.lowerBound) to \(aspect.range.upperBound), \"none\", or null")
            }
        }
    }

    private var members: [(String, JSONValue)] {
        Aspect.allCases.map { aspect in
            switch self[aspect] {
            case .usual: (aspect.rawValue, .null)
            case .none: (aspect.rawValue, "none")
            case .most(let number): (aspect.rawValue, .integer(Int64(number)))
            }
        }
    }

    /// The document with the device's name: `{"deviceId":…,"rate":…,"streamRate":…,"streams":…,"newStreamsPerSecond":…}`.
    package func document(of device: String) -> JSONValue {
        var document: JSONValue = ["deviceId": .string(device)]
        for (name, value) in members { document[name] = value }
        return document
    }

    var record: [UInt8] {
        var record: JSONValue = [:]
        for (name, value) in members { record[name] = value }
        return record.bytes()
    }
}

extension Registry {
    /// A device's quota, or `deviceNotFound`.
    package func quota(of device: String) throws(RegistryError) -> Quota {
        try read { transaction throws(RegistryError) in
            _ = try Self.require(try Self.deviceName(device), in: transaction)
            let found = try Self.stored { () throws(StoreError) in
                try transaction.lend(.quotas, device) { bytes throws(StoreError) in try Self.decode(quota: bytes) }
            }
            return found ?? Quota()
        }
    }

    /// Every device with a quota of its own, in the order of their ids.
    package func quotas() throws(RegistryError) -> [(device: String, quota: Quota)] {
        try read { transaction throws(RegistryError) in
            try Self.stored { () throws(StoreError) in
                try transaction.collect(.quotas) { key, value throws(StoreError) in
                    (key.toString() ?? "", try Self.decode(quota: value))
                }
            }
        }
    }

    private static func decode(quota bytes: RawSpan) throws(StoreError) -> Quota {
        guard let json = try? JSONValue.parse(bytes), let quota = try? Quota(json: json) else {
            throw .damaged(path: "registry", reason: "a device's quota")
        }
        return quota
    }

    static func putQuota(_ device: String, _ quota: Quota, in transaction: borrowing WriteTransaction) throws(RegistryError) {
        _ = try require(try deviceName(device), in: transaction)
        try stored { () throws(StoreError) in
            if quota.isUsual {
                try transaction.delete(.quotas, device)
            } else {
                try transaction.put(.quotas, device, quota.record)
            }
            try transaction.log(Change(.quotaUpdated, device: device))
        }
    }
}

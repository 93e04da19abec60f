import Bytes
import Store
import Wire

/// How many devices there are.
package struct DeviceStatistics: Equatable, Sendable {
    package var total, enabled, disabled: Int

    package init(total: Int, enabled: Int, disabled: Int) {
        self.total = total
        self.enabled = enabled
        self.disabled = disabled
    }

    /// The answer of `GET /statistics/devices`.
    package var json: JSONValue {
        [
            "totalDeviceCount": .integer(Int64(total)), "enabledDeviceCount": .integer(Int64(enabled)),
            "disabledDeviceCount": .integer(Int64(disabled)),
        ]
    }
}

extension Registry {
    /// The identity, or `deviceNotFound`, `moduleNotFound`.
    package func identity(_ name: ClientIdentity) throws(RegistryError) -> Identity {
        try read { transaction throws(RegistryError) in try Self.require(name, in: transaction) }
    }

    /// Devices in the order of their ids: at most `top`, beginning after the id `after`.
    package func devices(top: Int = 1000, after: String? = nil) throws(RegistryError) -> [Identity] {
        try read { transaction throws(RegistryError) in
            try Self.collect(.devices, prefix: "", from: after.map { "\($0)\0" }, top: top, in: transaction)
        }
    }

    /// Visits every device in the order of their ids, until `body` says false; no snapshot is held between pages.
    package func forEachDevice(_ body: (Identity) throws(RegistryError) -> Bool) throws(RegistryError) {
        var last: String?
        while true {
            let page = try devices(top: 500, after: last)
            for identity in page {
                guard try body(identity) else { return }
            }
            guard page.count == 500, let id = page.last?.name.deviceID else { return }
            last = id
        }
    }

    /// The modules of a device that exists, in the order of their ids.
    package func modules(of device: String) throws(RegistryError) -> [Identity] {
        try read { transaction throws(RegistryError) in
            _ = try Self.require(Self.deviceName(device), in: transaction)
            return try Self.collect(.modules, prefix: "\(device)\0", from: nil, top: .max, in: transaction)
        }
    }

    package func statistics() throws(RegistryError) -> DeviceStatistics {
        try read { transaction throws(RegistryError) in
            let total = try Self.stored { () throws(StoreError) in try transaction.count(.devices) }
            let disabled = Int(clamping: try Self.stored { () throws(StoreError) in try transaction.counter(Self.disabledCounter) })
            return DeviceStatistics(total: total, enabled: max(0, total - disabled), disabled: disabled)
        }
    }

    // MARK: - Inside a transaction

    /// The name of a device, or `deviceNotFound` when the text can be none.
    static func deviceName(_ id: String) throws(RegistryError) -> ClientIdentity {
        guard let name = ClientIdentity(deviceID: id) else { throw .deviceNotFound(id) }
        return name
    }

    static func find(
        _ name: ClientIdentity, in transaction: borrowing some Snapshot & ~Copyable
    ) throws(RegistryError) -> Identity? {
        let table = name.moduleID == nil ? Table.devices : .modules
        return try stored { () throws(StoreError) in
            try transaction.lend(table, name.key) { bytes throws(StoreError) in
                try latelyRead.value(of: bytes) { bytes throws(StoreError) in try decode(bytes) }
            }
        }
    }

    private static let latelyRead = RecordMemo<Identity>()

    static func require(
        _ name: ClientIdentity, in transaction: borrowing some Snapshot & ~Copyable
    ) throws(RegistryError) -> Identity {
        if let identity = try find(name, in: transaction) { return identity }
        if name.moduleID != nil, try find(try deviceName(name.deviceID), in: transaction) != nil { throw .moduleNotFound(name) }
        throw .deviceNotFound(name.deviceID)
    }

    static func decode(_ bytes: RawSpan) throws(StoreError) -> Identity {
        guard let identity = Identity(record: bytes) else { throw .damaged(path: "registry", reason: "an identity's record") }
        return identity
    }

    private static func collect(
        _ table: Table, prefix: String, from start: String?, top: Int, in transaction: borrowing some Snapshot & ~Copyable
    ) throws(RegistryError) -> [Identity] {
        try stored { () throws(StoreError) in
            try transaction.collect(table, prefix: prefix, from: start, top: top) { _, value throws(StoreError) in try decode(value) }
        }
    }
}

extension ClientIdentity {
    /// The record's key. No id contains NUL, so the modules of a device stand together.
    var key: String { moduleID.map { "\(deviceID)\0\($0)" } ?? deviceID }
}

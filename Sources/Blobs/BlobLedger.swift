import Synchronization

/// What devices' files may take, in bytes.
package struct BlobLimits: Equatable, Sendable {
    /// One file.
    package var fileBytes = 1 << 30
    /// All files of a device, and all files of all devices, each file and directory counted in steps of 4 KiB.
    package var deviceBytes = 10 << 30, totalBytes = 100 << 30

    package init() {}
}

/// How much room the files take, and how much is spoken for by those that are coming. Kept under a lock that is held for a look-up.
package final class BlobLedger: Sendable {
    private struct Account {
        var stored = 0
        var reserved = 0
        /// Grows with each change of `stored`: a count that was overtaken is not believed.
        var changes = 0
    }

    private struct Book {
        var accounts: [String: Account] = [:]
        var total = 0
        var isCounted = false
    }

    private let book = Mutex(Book())

    package init() {}

    /// What a file of so many bytes counts: whole steps of 4 KiB, one at the least.
    static func charge(_ bytes: Int) -> Int { max(1, (bytes >> 12) &+ (bytes & 4095 == 0 ? 0 : 1)) << 12 }
    /// What a directory counts.
    static let directoryCharge = 4096

    /// Bytes that a device's files take, with what is reserved for it.
    package func usage(of device: String) -> Int { book.withLock { $0.accounts[device].map { $0.stored + $0.reserved } ?? 0 } }
    /// The same of all devices.
    package var total: Int { book.withLock { $0.total } }
    package var isCounted: Bool { book.withLock { $0.isCounted } }

    /// Sets bytes aside for a file that is coming.
    func reserve(_ bytes: Int, for device: String, within limits: BlobLimits) throws(BlobError) {
        try book.withLock { book throws(BlobError) in
            guard book.isCounted else { throw .notReady }
            try Self.check(bytes, for: device, book, limits)
            book.accounts[device, default: Account()].reserved += bytes
            book.total += bytes
        }
    }

    /// Gives back what was set aside, and counts what a device's files have become larger by: smaller, below zero.
    func settle(reserved: Int, grown: Int, of device: String) {
        book.withLock { Self.settle(reserved, grown, of: device, &$0) }
    }

    /// The same, unless the files would take more than they may.
    func settle(reserved: Int, grown: Int, of device: String, within limits: BlobLimits) throws(BlobError) {
        try book.withLock { book throws(BlobError) in
            if grown > reserved { try Self.check(grown - reserved, for: device, book, limits) }
            Self.settle(reserved, grown, of: device, &book)
        }
    }

    private static func check(_ bytes: Int, for device: String, _ book: borrowing Book, _ limits: BlobLimits) throws(BlobError) {
        let account = book.accounts[device] ?? Account()
        guard account.stored + account.reserved <= limits.deviceBytes - bytes else { throw .deviceFull(limit: limits.deviceBytes) }
        guard book.total <= limits.totalBytes - bytes else { throw .hubFull }
    }

    private static func settle(_ reserved: Int, _ grown: Int, of device: String, _ book: inout Book) {
        var account = book.accounts[device] ?? Account()
        account.reserved -= reserved
        book.total -= reserved
        if grown != 0 {
            let stored = max(0, account.stored + grown)  // somebody may have taken away what was never counted
            book.total += stored - account.stored
            account.stored = stored
            account.changes += 1
        }
        book.accounts[device] = account.stored == 0 && account.reserved == 0 ? nil : account
    }

    /// A mark to be given to `set` with what was counted since.
    func mark(of device: String) -> Int { book.withLock { $0.accounts[device]?.changes ?? 0 } }

    /// Takes over what a device's files were found to take, unless they changed meanwhile.
    func set(_ stored: Int, of device: String, markedBefore mark: Int) {
        book.withLock { book in
            var account = book.accounts[device] ?? Account()
            guard account.changes == mark else { return }
            book.total += stored - account.stored
            account.stored = stored
            account.changes += 1
            book.accounts[device] = account.stored == 0 && account.reserved == 0 ? nil : account
        }
    }

    /// Everything has been counted once.
    func finishCounting() { book.withLock { $0.isCounted = true } }
    /// The devices that have files.
    var devices: [String] { book.withLock { Array($0.accounts.keys) } }
}

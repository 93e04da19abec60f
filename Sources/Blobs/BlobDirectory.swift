import Bytes
import COpenSSL
import Glibc
import LinuxIO
import Synchronization
import Wire

/// The directory of devices' files. A file appears whole, by a rename, or not at all.
///
///     DEVICE/PATH                 a device's file (`BlobName.directory(of:)`)
///     .partial/                   files that are coming; nobody's after a crash
///     .blocks/DEVICE/NAME/ID      blocks of a file that were put and not yet made a file of; NAME is a digest of the file's name
///     .blocks/DEVICE/NAME/map     which blocks the file is made of, see `BlockMap`
///
/// Everything here waits for the disk: call it off the reactors.
package final class BlobDirectory: Sendable {
    /// Seconds after which blocks that nobody made a file of are removed: no link lives as long.
    package static let blockSeconds: Int64 = 2 * 3600

    package let path: String
    package let ledger = BlobLedger()
    /// Held while a file or block gets or loses its name.
    let naming = Mutex<Void>(())
    /// When a device's files were counted anew for the last time, in milliseconds of the monotonic clock; all of them under "".
    private let recounts: Mutex<[String: UInt64]> = Mutex([:])

    package init(_ path: String) { self.path = path }

    var partial: String { "\(path)/.partial" }
    var blocks: String { "\(path)/.blocks" }
    func home(of device: String) -> String { "\(path)/\(BlobName.directory(of: device))" }
    func file(_ name: BlobName) -> String { "\(home(of: name.device))/\(name.path)" }
    func blockHome(of device: String) -> String { "\(blocks)/\(BlobName.directory(of: device))" }
    func blocks(of name: BlobName) -> String { "\(blockHome(of: name.device))/\(Self.digest(name.path))" }

    /// A name of 32 digits for a text.
    private static func digest(_ text: String) -> String {
        var digest = [UInt8](repeating: 0, count: 32)
        var length: UInt32 = 32
        let bytes = Array(text.utf8)
        EVP_Digest(bytes, bytes.count, &digest, &length, EVP_sha256(), nil)
        return Hex.encode(digest.prefix(16))
    }

    // The start

    /// Makes the directory, removes what a crash has left, and counts what is there.
    package func prepare(now: Int64) throws(SystemError) {
        for directory in [path, partial, blocks] { try Files.makeDirectory(directory) }
        for name in try Files.names(in: partial) { unlink("\(partial)/\(name)") }
        for device in try devices() { ledger.set(measure(device), of: device, markedBefore: ledger.mark(of: device)) }
        ledger.finishCounting()
        sweep(now: now)
    }

    /// Removes blocks that are too old.
    package func sweep(now: Int64) {
        for device in (try? Files.names(in: blocks)) ?? [] {
            guard let id = Self.device(ofDirectory: device) else { continue }
            for name in (try? Files.names(in: "\(blocks)/\(device)")) ?? [] {
                let directory = "\(blocks)/\(device)/\(name)"
                var status = stat()
                guard lstat(directory, &status) == 0, Int64(status.st_mtim.tv_sec) < now - Self.blockSeconds else { continue }
                naming.withLock { _ in ledger.settle(reserved: 0, grown: -removeDirectory(directory), of: id) }
            }
            naming.withLock { _ in _ = rmdir("\(blocks)/\(device)") }
        }
    }

    // Counting

    /// The devices that have a directory of either kind.
    private func devices() throws(SystemError) -> Set<String> {
        Set((try Files.names(in: path) + Files.names(in: blocks)).compactMap { Self.device(ofDirectory: $0) })
    }

    /// The device behind a directory's name; nil for the hub's own, and for names that no device has.
    private static func device(ofDirectory name: String) -> String? {
        guard !name.hasPrefix("."), let device = PercentCoding.decode(name), Identifier.isValidID(device),
            BlobName.directory(of: device) == name
        else { return nil }
        return device
    }

    private func measure(_ device: String) -> Int {
        Self.measure(home(of: device), depth: 0) + Self.measure(blockHome(of: device), depth: 0)
    }

    /// What is below a directory counts so much.
    private static func measure(_ directory: String, depth: Int) -> Int {
        guard depth <= BlobName.mostComponents, let names = try? Files.names(in: directory) else { return 0 }
        var total = 0
        for name in names {
            var status = stat()
            guard lstat("\(directory)/\(name)", &status) == 0 else { continue }
            switch status.st_mode & S_IFMT {
            case S_IFDIR: total += BlobLedger.directoryCharge + measure("\(directory)/\(name)", depth: depth + 1)
            case S_IFREG: total += BlobLedger.charge(Int(status.st_size))
            default: break
            }
        }
        return total
    }

    /// Runs `body`, and once more if the files of the device, or of all devices, were found to take less than was thought: somebody may
    /// have taken files away.
    func recounting<Result>(for device: String, _ body: () throws(BlobError) -> Result) throws(BlobError) -> Result {
        do throws(BlobError) { return try body() } catch {
            switch error {
            case .deviceFull: guard mayRecount(device) else { throw error }
            case .hubFull: guard mayRecount("") else { throw error }
            default: throw error
            }
            for one in error == .hubFull ? ledger.devices : [device] {
                let mark = ledger.mark(of: one)
                ledger.set(measure(one), of: one, markedBefore: mark)
            }
            return try body()
        }
    }

    /// Not more often than each second, however many are refused.
    private func mayRecount(_ key: String) -> Bool {
        let now = Clock.milliseconds
        return recounts.withLock { recounts in
            if let last = recounts[key], now - last < 1000 { return false }
            if recounts.count > 1000 { recounts = [:] }
            recounts[key] = now
            return true
        }
    }

    // Names

    /// A file as it is now; nil when there is none.
    package func properties(of name: BlobName) throws(BlobError) -> BlobProperties? { try Self.properties(ofFile: file(name)) }

    static func properties(ofFile path: String) throws(BlobError) -> BlobProperties? {
        var status = stat()
        guard lstat(path, &status) == 0 else {
            if errno == ENOENT || errno == ENOTDIR { return nil }
            throw BlobError(SystemError("lstat"))
        }
        guard status.st_mode & S_IFMT == S_IFREG else { throw .nameTaken }
        return BlobProperties(status)
    }

    /// Makes a directory and those above it, up to the one of all, so that they last; how many of them count for the device.
    func makeDirectories(_ directory: String, for device: String) throws(BlobError) -> Int {
        if mkdir(directory, 0o700) == 0 {
            do { try Files.syncDirectory(of: directory) } catch { throw BlobError(error) }
            return directory.utf8.count > home(of: device).utf8.count ? 1 : 0
        }
        if errno == EEXIST { return 0 }
        guard errno == ENOENT, directory.utf8.count > path.utf8.count else { throw BlobError(SystemError("mkdir")) }
        let above = try makeDirectories(Self.parent(of: directory), for: device)
        guard mkdir(directory, 0o700) == 0 || errno == EEXIST else { throw BlobError(SystemError("mkdir")) }
        do { try Files.syncDirectory(of: directory) } catch { throw BlobError(error) }
        return above + (directory.utf8.count > home(of: device).utf8.count ? 1 : 0)
    }

    static func parent(of path: String) -> String { path.lastIndex(of: "/").map { String(path[..<$0]) } ?? path }

    /// Removes a directory of plain files, and tells what that counts.
    func removeDirectory(_ directory: String) -> Int {
        let names = (try? Files.names(in: directory)) ?? []
        var removed = 0
        for name in names {
            var status = stat()
            let file = "\(directory)/\(name)"
            if lstat(file, &status) == 0, unlink(file) == 0 { removed += BlobLedger.charge(Int(status.st_size)) }
        }
        if rmdir(directory) == 0 { removed += BlobLedger.directoryCharge }
        return removed
    }
}

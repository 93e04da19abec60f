import Blobs
import Bytes
import Glibc
import LinuxIO
import Testing
import Wire

/// A directory of its own for each test, removed with it.
@Suite final class DirectoryTests {
    let path: String
    var directory: BlobDirectory
    var limits = BlobLimits()
    let now: Int64

    init() throws {
        var template = Array("/tmp/iotstream-blobs-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw SystemError("mkdtemp") }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        directory = BlobDirectory(path)
        now = Clock.unixSeconds
        try directory.prepare(now: now)
    }

    deinit { Self.remove(path) }

    private static func remove(_ path: String) {
        for name in (try? Files.names(in: path)) ?? [] where unlink("\(path)/\(name)") != 0 { remove("\(path)/\(name)") }
        rmdir(path)
    }

    private func name(_ text: String) throws -> BlobName { try #require(BlobName(text)) }
    private func id(_ text: String) throws -> BlockID { try #require(BlockID(base64: Base64.encode(text.utf8))) }

    private func writing(_ target: BlobWriting.Target, of text: String, announced: Int? = nil) throws -> BlobWriting {
        BlobWriting(target, of: try name(text), in: directory, announced: announced, digest: ContentDigest([]), within: limits)
    }

    @discardableResult
    private func put(_ text: String, _ bytes: [UInt8], _ conditions: BlobConditions = BlobConditions()) throws -> BlobProperties {
        let writing = try writing(.file(conditions), of: text)
        try writing.write(bytes)
        return try writing.finish()
    }

    private func put(_ block: String, of text: String, _ bytes: [UInt8]) throws {
        let writing = try writing(.block(try id(block)), of: text, announced: bytes.count)
        try writing.write(bytes)
        _ = try writing.finish()
    }

    private func assemble(_ entries: [(String, String)], as text: String) throws -> [UInt8] {
        let inside = entries.map { "<\($0.0)>\(Base64.encode($0.1.utf8))</\($0.0)>" }.joined()
        let list = try #require(BlockList(xml: Array("<BlockList>\(inside)</BlockList>".utf8)))
        _ = try directory.assemble(list, as: try name(text), conditions: BlobConditions(), within: limits)
        return try read(text)
    }

    private func read(_ text: String) throws -> [UInt8] {
        let file = try BlobReading(try name(text), in: directory)
        return try file.read(at: 0, count: file.properties.size + 1)
    }

    /// What a new hub would count.
    private func counted(_ device: String) throws -> Int {
        let other = BlobDirectory(path)
        try other.prepare(now: now)
        return other.ledger.usage(of: device)
    }

    @Test func aFileAppearsWholeOrNotAtAll() throws {
        let half = try writing(.file(BlobConditions()), of: "d/a/b")
        try half.write([1, 2])
        #expect(throws: BlobError.notFound) { try read("d/a/b") }
        half.abandon()
        #expect(throws: BlobError.notFound) { try half.write([3]) }
        #expect(try Files.names(in: "\(path)/.partial").isEmpty && directory.ledger.total == 0)
        #expect(try put("d/a/b", [1, 2, 3]).size == 3)
        #expect(try read("d/a/b") == [1, 2, 3])
        _ = try writing(.file(BlobConditions()), of: "d/a/b").write([9])  // dropped without a word
        #expect(try Files.names(in: "\(path)/.partial").isEmpty && read("d/a/b") == [1, 2, 3])
    }

    @Test func aReaderKeepsItsFileWhileAnotherTakesTheName() throws {
        try put("d/a", [1])
        let file = try BlobReading(try name("d/a"), in: directory)
        let tag = try put("d/a", [2, 2]).etag
        #expect(try file.read(at: 0, count: 9) == [1] && read("d/a") == [2, 2] && file.properties.etag != tag)
    }

    @Test func whatIsCountedIsWhatANewHubWouldCount() throws {
        try put("d/a/b/c", [UInt8](repeating: 0, count: 5000))
        try put("d/a/x", [])
        try put("..%/x", [1])
        try put("1", of: "d/blocks", [1, 2, 3])
        try put("2", of: "d/blocks", [1, 2, 3])
        try put("2", of: "d/blocks", [UInt8](repeating: 0, count: 9000))
        #expect(try directory.ledger.usage(of: "d") == counted("d") && directory.ledger.usage(of: "..%") == 4096)
        #expect(directory.ledger.usage(of: "d") == 4096 * (2 + 1 + 2 + 1 + 1 + 3))
        _ = try assemble([("Latest", "2"), ("Latest", "1")], as: "d/blocks")
        #expect(try directory.ledger.usage(of: "d") == counted("d"))
        try put("d/blocks", [1])
        try put("d/a/b/c", [1])
        #expect(try directory.ledger.usage(of: "d") == counted("d"))
        #expect(directory.ledger.usage(of: "d") == 4096 * 5)
    }

    @Test func quotasHold() throws {
        limits.fileBytes = 20_000
        limits.deviceBytes = 32_768
        limits.totalBytes = 40_960
        #expect(throws: BlobError.fileTooLarge(limit: 20_000)) { try put("d/a", [UInt8](repeating: 0, count: 20_001)) }
        try put("d/a", [UInt8](repeating: 0, count: 20_000))
        #expect(throws: BlobError.deviceFull(limit: 32_768)) { try put("d/b", [UInt8](repeating: 0, count: 12_289)) }
        #expect(throws: BlobError.deviceFull(limit: 32_768)) {
            try writing(.file(BlobConditions()), of: "d/b", announced: 12_289).write([])
        }
        try put("d/b", [UInt8](repeating: 0, count: 12_288))
        #expect(throws: BlobError.hubFull) { try put("e/b", [UInt8](repeating: 0, count: 8193)) }
        try put("e/b", [UInt8](repeating: 0, count: 8192))
        #expect(directory.ledger.total == 40_960)
        // What somebody takes away makes room as soon as it is needed.
        directory = BlobDirectory(path)
        try directory.prepare(now: now)
        unlink("\(path)/d/a")
        try put("e/c", [UInt8](repeating: 0, count: 20_000))
        #expect(try directory.ledger.total == counted("d") + counted("e"))
    }

    @Test func reservationsAreGivenBack() throws {
        limits.deviceBytes = 8192
        let one = try writing(.file(BlobConditions()), of: "d/a", announced: 8192)
        try one.write([1])
        #expect(throws: BlobError.deviceFull(limit: 8192)) { try put("d/b", [1]) }
        one.abandon()
        #expect(directory.ledger.usage(of: "d") == 0)
        try put("d/b", [1])
    }

    @Test func blocksBecomeAFileInTheOrderOfTheList() throws {
        for (number, block) in ["c", "a", "b"].enumerated() { try put(block, of: "d/f", [UInt8(number), UInt8(number)]) }
        #expect(throws: BlobError.notFound) { try read("d/f") }
        #expect(throws: BlobError.noSuchBlock) { try assemble([("Latest", "x")], as: "d/f") }
        #expect(throws: BlobError.noSuchBlock) { try assemble([("Committed", "a")], as: "d/f") }
        #expect(try assemble([("Latest", "a"), ("Uncommitted", "b"), ("Latest", "a")], as: "d/f") == [1, 1, 2, 2, 1, 1])
        #expect(throws: BlobError.noSuchBlock) { try assemble([("Latest", "c")], as: "d/f") }
        try put("b", of: "d/f", [7])
        #expect(try assemble([("Latest", "b"), ("Committed", "b"), ("Latest", "a")], as: "d/f") == [7, 2, 2, 1, 1])
        try put("d/f", [9])
        #expect(throws: BlobError.noSuchBlock) { try assemble([("Committed", "a")], as: "d/f") }
        #expect(try read("d/f") == [9])
    }

    @Test func aStartRemovesWhatACrashHasLeft() throws {
        try put("d/a", [1])
        try put("1", of: "d/f", [1])
        try Files.create("\(path)/.partial/half", with: [1, 2], mode: 0o600)
        try directory.prepare(now: now)
        #expect(try Files.names(in: "\(path)/.partial").isEmpty && read("d/a") == [1])
        #expect(try assemble([("Latest", "1")], as: "d/f") == [1])
        try put("1", of: "d/f", [2])
        try directory.prepare(now: now + BlobDirectory.blockSeconds + 60)
        #expect(throws: BlobError.noSuchBlock) { try assemble([("Latest", "1")], as: "d/f") }
        #expect(try read("d/f") == [1] && Files.names(in: "\(path)/.blocks").isEmpty)
        #expect(try directory.ledger.usage(of: "d") == counted("d"))
    }

    @Test func namesAreFilesOrDirectories() throws {
        try put("d/a/b", [1])
        #expect(throws: BlobError.nameTaken) { try put("d/a", [1]) }
        #expect(throws: BlobError.nameTaken) { try put("d/a/b/c", [1]) }
        #expect(throws: BlobError.notFound) { try read("d/a/b/c") }
        #expect(throws: BlobError.notFound) { try read("d/a") }
        #expect(symlink("/etc", "\(path)/d/link") == 0 && symlink("/etc/passwd", "\(path)/d/file") == 0)
        #expect(throws: BlobError.nameTaken) { try read("d/file") }
        #expect(throws: BlobError.nameTaken) { try put("d/file", [1]) }
    }

    @Test func conditionsAreHeldAtTheEndToo() throws {
        var once = BlobConditions()
        once.noneMatch = ["*"]
        let slow = try writing(.file(once), of: "d/a")
        try slow.write([1])
        let etag = try put("d/a", [2]).etag
        #expect(throws: BlobError.exists) { try slow.finish() }
        var same = BlobConditions()
        same.match = [etag]
        try put("d/a", [3], same)
        #expect(throws: BlobError.conditionFailed) { try put("d/a", [4], same) }
        #expect(throws: BlobError.conditionFailed) { try put("d/new", [4], same) }
        #expect(try read("d/a") == [3])
    }

    @Test func sumsAreChecked() throws {
        var crc = CRC64()
        crc.update([UInt8]([1, 2, 3]).span.bytes)
        for (bytes, isGood) in [([1, 2, 3], true), ([1, 2, 4], false)] as [([UInt8], Bool)] {
            let writing = BlobWriting(
                .file(BlobConditions()), of: try name("d/a"), in: directory, announced: nil,
                digest: ContentDigest([(kind: .crc64, value: crc.bytes)]), within: limits)
            try writing.write(bytes)
            if isGood { _ = try writing.finish() } else { #expect(throws: BlobError.digestDiffers(.crc64)) { try writing.finish() } }
        }
        #expect(try read("d/a") == [1, 2, 3])
    }

    @Test func nothingIsTakenBeforeItIsCounted() throws {
        directory = BlobDirectory(path)
        #expect(throws: BlobError.notReady) { try put("d/a", [1]) }
        #expect(throws: BlobError.notReady) { try assemble([], as: "d/a") }
    }
}

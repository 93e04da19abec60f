import Glibc
import LinuxIO
@testable import Store
import Testing

@Suite struct DamageTests {
    let place: Place

    init() throws {
        place = try Place()
        let store = try place.open()
        for number in 0..<50 {
            try put(store, "device-\(number)", String(repeating: "v", count: 700))
        }
        try put(store, "large", String(repeating: "L", count: 100_000), .twins)
    }

    private var size: Int { Int(Files.stamp(place.data)?.bytes ?? 0) }

    /// Opens with every page looked at, and tells the refusal.
    private func refusal() -> StoreError? {
        do {
            _ = try place.open { $0.everyPage = true }
            return nil
        } catch {
            return error
        }
    }

    @Test func opensWhatIsWhole() {
        #expect(refusal() == nil)
    }

    @Test(arguments: [0, 1, 151, 152, 4096, 8191]) func refusesAFileCutBelowItsHead(length: Int) {
        truncate(place.data, off_t(length))
        guard case .cutShort(_, let bytes, _)? = refusal() else {
            Issue.record("opened a file of \(length) bytes")
            return
        }
        #expect(bytes == length)
    }

    @Test func refusesAFileCutAtAnyPageThatIsUsed() {
        let whole = size
        for length in stride(from: whole - 4096, through: 8192, by: -4096) {
            truncate(place.data, off_t(length))
            guard case .cutShort? = refusal() else {
                Issue.record("opened \(length) of \(whole) bytes")
                return
            }
        }
    }

    @Test func refusesACutFileInAQuickLookToo() {
        truncate(place.data, off_t(size - 40_960))
        #expect { try place.open() } throws: { if case StoreError.cutShort = $0 { true } else { false } }
    }

    @Test func takesAFileThatEndsBeforePagesThatNobodyUses() throws {
        // Pages taken and freed in one transaction may lie beyond the end of a healthy file.
        let store = try Place()
        do {
            let one = try store.open()
            try one.write { transaction throws(StoreError) in
                for number in 0..<200 { try transaction.put(.devices, "d\(number)", [UInt8](repeating: 1, count: 2000)) }
                try transaction.deleteAll(.devices, prefix: "d")
                try transaction.put(.devices, "last", [1])
            }
        }
        _ = try store.open()
    }

    @Test(arguments: [16, 17, 20]) func refusesForeignFiles(offset: Int) {
        place.poke(place.data, at: offset, [0x55])
        place.poke(place.data, at: 4096 + offset, [0x55])
        switch refusal() {
        case .notARegistry?, .damaged?: break
        case let other: Issue.record("\(String(describing: other))")
        }
    }

    @Test func refusesAFileOfNoise() {
        var state: UInt32 = 7
        let noise = (0..<size).map { _ -> UInt8 in
            state = state &* 1_664_525 &+ 1_013_904_223
            return UInt8(state >> 24)
        }
        place.poke(place.data, at: 0, noise)
        #expect(refusal() == .notARegistry(path: place.data))
    }

    @Test func findsPagesThatAreNotThemselves() {
        let zeros = [UInt8](repeating: 0, count: 4096)
        var found = 0
        for page in 2..<(size / 4096) {
            guard let copy = try? Place() else { return }
            _ = try? Files.makeDirectory(copy.paths.registry)
            guard let bytes = try? Files.read(place.data, limit: 1 << 30) else { return }
            try? Files.replace(copy.data, with: bytes, mode: 0o600)
            copy.poke(copy.data, at: page * 4096, zeros)
            do { _ = try copy.open { $0.everyPage = true } } catch {
                if case .damaged = error { found += 1 } else { Issue.record("\(error)") }
            }
        }
        #expect(found > 10)
    }

    @Test func refusesANewerSchema() throws {
        do {
            let store = try place.open()
            try store.write { transaction throws(StoreError) in try transaction.setCounter("schema", 99) }
        }
        #expect(throws: StoreError.newerSchema(path: place.data, found: 99, known: Store.schema)) { try place.open() }
    }

    @Test func migratesAnOlderSchema() throws {
        do {
            let store = try place.open()
            try store.write { transaction throws(StoreError) in try transaction.setCounter("schema", 0) }
        }
        let store = try place.open()
        #expect(try get(store, "device-7")?.utf8.count == 700)
        #expect(try store.read { transaction throws(StoreError) in try transaction.counter("schema") } == Store.schema)
    }

    @Test func anOlderRegistryGetsTheTablesThatItLacks() throws {
        do {
            let store = try place.open()
            try store.write { transaction throws(StoreError) in try transaction.setCounter("schema", 6) }
        }
        // Under another name a table is not there; the order of the names stays.
        var bytes = try Files.read(place.data, limit: 1 << 30)
        let name = Array("authorities".utf8)
        var index = 0
        while index + name.count <= bytes.count {
            if bytes[index..<(index + name.count)].elementsEqual(name) { bytes[index + name.count - 1] = UInt8(ascii: "z") }
            index += 1
        }
        try Files.replace(place.data, with: bytes, mode: 0o600)
        let store = try place.open { $0.everyPage = true }
        try store.write { transaction throws(StoreError) in try transaction.put(.authorities, "a", [1, 2]) }
        #expect(try get(store, "device-7")?.utf8.count == 700)
        #expect(try store.read { transaction throws(StoreError) in try transaction.counter("schema") } == Store.schema)
    }

    @Test func refusesARegistryWithoutItsFile() {
        unlink(place.data)
        #expect(throws: StoreError.damaged(path: place.data, reason: "missing")) { try place.open() }
    }

    @Test func makesARegistryInAnEmptyDirectory() throws {
        let place = try Place()
        try Files.makeDirectory(place.paths.registry)
        _ = try place.open()
    }

    @Test func clearsAwayAHalfMadeRegistry() throws {
        let place = try Place()
        try Files.makeDirectory("\(place.paths.registry).new")
        try Files.replace("\(place.paths.registry).new/data.mdb", with: [1, 2, 3])
        _ = try place.open()
        #expect(!Files.exists("\(place.paths.registry).new"))
    }

    @Test func refusesADirectoryThatEverybodyMayEnter() {
        chmod(place.paths.registry, 0o755)
        #expect(throws: StoreError.openToOthers(path: place.paths.registry, mode: 0o755)) { try place.open() }
        chmod(place.paths.registry, 0o700)
    }

    @Test func namesAMissingStateDirectory() {
        let paths = RuntimePaths(state: "/tmp/iotstream-nowhere")
        var options = Store.Options()
        options.create = false
        #expect(throws: StoreError.missing(path: paths.state)) { try Store.open(at: paths, options) }
    }

    @Test func namesALockFileOfAnotherKind() {
        place.poke(place.lock, at: 0, [UInt8](repeating: 0x5A, count: 64))
        // Alone, LMDB writes the lock file anew; that is as good.
        #expect(throws: Never.self) { try place.open() }
    }

    @Test func saysEachErrorInOneLineWithWhatToDo() {
        let errors: [StoreError] = [
            .missing(path: "/s"), .notPermitted(path: "/s"), .openToOthers(path: "/s", mode: 0o755), .readOnly(path: "/s"),
            .diskFull(path: "/s"), .mapFull(path: "/s", limitBytes: 1 << 30), .cutShort(path: "/s", bytes: 1, expectedBytes: 2),
            .notARegistry(path: "/s"), .damaged(path: "/s", reason: "r"), .newerSchema(path: "/s", found: 2, known: 1),
            .lockUnusable(path: "/s"), .alreadyOpen(path: "/s"), .tooManyReaders(path: "/s"),
        ]
        for error in errors {
            #expect(error.description.hasPrefix("/s: "))
            #expect(!error.description.contains("\n"))
            #expect(error.exitCode >= 64)
        }
    }
}

@Suite struct NoiseTests {
    @Test func neverCrashesOnDamageInTheHead() throws {
        let place = try Place()
        do { try put(place.open(), "d1", "one") }
        let whole = try Files.read(place.data, limit: 1 << 30)
        var state: UInt64 = 42
        for _ in 0..<400 {
            try Files.replace(place.data, with: whole, mode: 0o600, isDurable: false)
            for _ in 0..<3 {  // in both meta pages, where lengths and places stand
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                let offset = 16 + Int(state >> 40) % 136
                let byte = UInt8(truncatingIfNeeded: state >> 32)
                place.poke(place.data, at: offset, [byte])
                place.poke(place.data, at: 4096 + offset, [byte])
            }
            do throws(StoreError) { _ = try DataFileProbe.look(at: place) } catch { continue }
        }
    }
}

/// Only the look before LMDB maps the file: what passes it may still be odd, but not beyond the file's end.
enum DataFileProbe {
    static func look(at place: Place) throws(StoreError) {
        try DataFile(path: place.data).verify(everyPage: true)
    }
}

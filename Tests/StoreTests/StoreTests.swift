import Bytes
import Glibc
import LinuxIO
import Store
import Testing

@Suite struct StoreTests {
    let place: Place

    init() throws { place = try Place() }

    @Test func keepsWhatWasWrittenAcrossOpenings() throws {
        do {
            let store = try place.open()
            try put(store, "d1", "one")
            #expect(try get(store, "d1") == "one")
            #expect(try get(store, "d2") == nil)
        }
        #expect(try get(place.open(), "d1") == "one")
    }

    @Test func makesDirectoriesAndFilesForTheOwnerOnly() throws {
        _ = try place.open()
        for (path, mode) in [(place.paths.registry, 0o700), (place.data, 0o600), (place.lock, 0o600)] {
            #expect(Files.stamp(path)?.mode == UInt32(mode) | (mode == 0o700 ? S_IFDIR : S_IFREG), "\(path)")
        }
    }

    @Test func undoesAWriteThatThrows() throws {
        let store = try place.open()
        try put(store, "d1", "one")
        #expect(throws: JobError.refused) {
            try store.write { transaction throws(JobError) in
                do throws(StoreError) { try transaction.put(.devices, "d1", [0]) } catch { throw .store(error) }
                throw .refused
            }
        }
        #expect(try get(store, "d1") == "one")
    }

    @Test func refusesToCommitAfterAnErrorThatTheBodySwallowed() throws {
        let store = try place.open {
            $0.mapBytes = 1 << 16; $0.mapLimitBytes = 1 << 16
        }
        #expect(throws: StoreError.mapFull(path: place.data, limitBytes: 1 << 16)) {
            try store.write { transaction throws(StoreError) in
                try transaction.put(.devices, "small", [1])
                try? transaction.put(.devices, "large", [UInt8](repeating: 0, count: 1 << 20))
            }
        }
        #expect(try get(store, "small") == nil)
    }

    @Test func scansByPrefixInOrder() throws {
        let store = try place.open()
        try store.write { transaction throws(StoreError) in
            for key in ["b\0y", "a", "b", "b\0x", "c"] { try transaction.put(.modules, key, Array(key.utf8)) }
        }
        var keys: [String] = []
        try store.read { transaction throws(StoreError) in
            try transaction.scan(.modules, prefix: "b\0") { key, _ throws(StoreError) in
                keys.append(key.toString() ?? "")
                return true
            }
        }
        #expect(keys == ["b\0x", "b\0y"])
        try store.write { transaction throws(StoreError) in
            #expect(try transaction.deleteAll(.modules, prefix: "b\0") == 2)
            #expect(try transaction.count(.modules) == 3)
            #expect(try !transaction.delete(.modules, "zz"))
        }
    }

    @Test(arguments: [0, 512, 5000]) func refusesKeysThatDoNotFit(length: Int) throws {
        let store = try place.open()
        #expect(throws: StoreError.badSize(bytes: length)) { try put(store, String(repeating: "k", count: length), "v") }
        #expect(try get(store, String(repeating: "k", count: length)) == nil)
    }

    @Test func growsTheMapAndStartsTheWriteOver() throws {
        let store = try place.open { $0.mapBytes = 1 << 17 }
        for number in 0..<64 {
            try store.write { transaction throws(StoreError) in
                try transaction.put(.devices, "d\(number)", [UInt8](repeating: 7, count: 30_000))
            }
        }
        let count = try store.read { transaction throws(StoreError) in try transaction.count(.devices) }
        #expect(count == 64)
        #expect(try store.usage().mapBytes >= 1 << 21)
    }

    @Test func saysThatTheMapIsFullAtItsLimitAndReadsOn() throws {
        let store = try place.open {
            $0.mapBytes = 1 << 17; $0.mapLimitBytes = 1 << 18
        }
        try put(store, "d1", "one")
        #expect(throws: StoreError.mapFull(path: place.data, limitBytes: 1 << 18)) {
            for number in 0..<1000 { try put(store, "big\(number)", String(repeating: "x", count: 4000)) }
        }
        #expect(try get(store, "d1") == "one")
        try store.write { transaction throws(StoreError) in _ = try transaction.deleteAll(.devices, prefix: "big") }
        try put(store, "d2", "two")
    }

    @Test func opensAPathOnceInAProcess() throws {
        let store = try place.open()
        #expect(throws: StoreError.alreadyOpen(path: place.paths.registry)) { try place.open() }
        try put(store, "d1", "one")
    }

    @Test func refusesWritesWhenOpenedForReading() throws {
        do { _ = try place.open() }
        let store = try place.open { $0.access = .readOnly }
        #expect(throws: StoreError.readOnly(path: place.paths.registry)) { try put(store, "a", "b") }
        #expect(try get(store, "a") == nil)
    }

    @Test func freesReaderSlots() throws {
        let store = try place.open()
        for _ in 0..<2000 { _ = try get(store, "d") }
        #expect(try store.usage().readers <= 2)
        #expect(try store.clearStaleReaders() == 0)
    }

    @Test func ringsABellThatSomebodyHears() throws {
        Bell.ring(place.paths)  // nobody there
        try Files.makeDirectory(place.paths.run)
        Bell.ring(place.paths)
        let bell = try Bell.hang(place.paths)
        Bell.ring(place.paths)
        var descriptor = pollfd(fd: bell.raw, events: Int16(POLLIN), revents: 0)
        #expect(poll(&descriptor, 1, 0) == 1)
        Bell.silence(bell)
        #expect(poll(&descriptor, 1, 0) == 0)
        for _ in 0..<100_000 { Bell.ring(place.paths) }  // full, and nobody waits
        Bell.silence(bell)
        #expect(poll(&descriptor, 1, 0) == 0)
    }

    @Test func namesItsPlaces() {
        #expect(RuntimePaths(state: "/var/lib/iotstream//").bell == "/var/lib/iotstream/run/bell")
        #expect(RuntimePaths(state: "/s", run: "/run/iotstream/").streams == "/run/iotstream/streams")
        #expect(RuntimePaths(state: "/").registry == "//registry")
    }
}

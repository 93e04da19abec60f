import Glibc
import LinuxIO
import SmallDisk
import Store
import Testing

@Suite(.enabled(if: geteuid() == 0, "mounting needs root")) struct DiskTests {
    let place: Place

    init() throws { place = try Place() }

    @Test func saysThatTheDiskIsFullAndGoesOnWhenThereIsRoom() async {
        await #expect(processExitsWith: .success) { [state = place.paths.state as String] in
            let disk = try SmallDisk(at: state)
            let store = try Store.open(at: RuntimePaths(state: state))
            try put(store, "d1", "one")
            disk.fill()
            #expect(throws: StoreError.diskFull(path: "\(state)/registry/data.mdb")) {
                for number in 0..<100 { try put(store, "big\(number)", String(repeating: "b", count: 3000)) }
            }
            #expect(try get(store, "d1") == "one")
            disk.makeRoom()
            try put(store, "d2", "two")
            #expect(try get(store, "d2") == "two")
        }
    }

    @Test func opensOnAFullDiskAndRefusesToMakeARegistryThere() async {
        await #expect(processExitsWith: .success) { [state = place.paths.state as String] in
            let disk = try SmallDisk(at: state)
            do { try put(Store.open(at: RuntimePaths(state: state)), "d1", "one") }
            disk.fill()
            #expect(try get(Store.open(at: RuntimePaths(state: state)), "d1") == "one")
            unlink("\(state)/registry/lock.mdb")  // its blocks go to the ballast
            disk.fill()
            #expect(throws: StoreError.diskFull(path: "\(state)/registry/lock.mdb")) { try Store.open(at: RuntimePaths(state: state)) }
        }
    }

    @Test func saysThatTheFileSystemIsReadOnlyAndReadsOn() async {
        await #expect(processExitsWith: .success) { [state = place.paths.state as String] in
            let disk = try SmallDisk(at: state)
            do { try put(Store.open(at: RuntimePaths(state: state)), "d1", "one") }
            try disk.makeReadOnly()
            #expect(throws: StoreError.readOnly(path: "\(state)/registry/data.mdb")) { try Store.open(at: RuntimePaths(state: state)) }
            var options = Store.Options()
            options.access = .readOnly
            #expect(try get(Store.open(at: RuntimePaths(state: state), options), "d1") == "one")
        }
    }

    @Test func namesWhatAnotherUserMayNotOpen() async throws {
        do { _ = try place.open() }
        await #expect(processExitsWith: .success) { [state = place.paths.state as String] in
            guard setgid(65534) == 0, setuid(65534) == 0 else { throw SystemError("setuid") }
            #expect(throws: StoreError.notPermitted(path: state)) { try Store.open(at: RuntimePaths(state: state)) }
        }
    }
}

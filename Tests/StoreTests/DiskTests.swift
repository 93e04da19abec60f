import Glibc
import LinuxIO
import Store
import Testing

/// A small file system of its own, seen by the calling thread of this process alone. Root only; for a child of the tests.
struct SmallDisk {
    let path: String

    private typealias Unshare = @convention(c) (CInt) -> CInt
    private typealias Mount =
        @convention(c) (UnsafePointer<CChar>?, UnsafePointer<CChar>?, UnsafePointer<CChar>?, CUnsignedLong, UnsafePointer<CChar>?) -> CInt

    private static func symbol<Function>(_ name: String, as type: Function.Type) throws -> Function {
        guard let address = dlsym(nil, name) else { throw SystemError("dlsym", ENOSYS) }
        return unsafeBitCast(address, to: type)
    }

    init(at path: String) throws {
        self.path = path
        let unshare = try Self.symbol("unshare", as: Unshare.self), mount = try Self.symbol("mount", as: Mount.self)
        let newNamespace: CInt = 0x20000
        let recursivePrivate: CUnsignedLong = 0x44000
        guard unshare(newNamespace) == 0, mount(nil, "/", nil, recursivePrivate, nil) == 0,
            mount("none", path, "tmpfs", 0, "size=1m,mode=700") == 0
        else { throw SystemError("mount") }
    }

    func makeReadOnly() throws {
        let mount = try Self.symbol("mount", as: Mount.self)
        let remountReadOnly: CUnsignedLong = 0x21
        guard mount("none", path, nil, remountReadOnly, nil) == 0 else { throw SystemError("mount") }
    }

    /// Writes until nothing more fits.
    func fill() {
        let file = open("\(path)/ballast", O_WRONLY | O_CREAT, 0o600)
        defer { close(file) }
        let bytes = [UInt8](repeating: 1, count: 4096)
        while write(file, bytes, bytes.count) > 0 {}
    }

    func makeRoom() { unlink("\(path)/ballast") }
}

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

import Glibc
import LinuxIO

/// A small file system of its own, seen by the calling thread of this process alone. Root only; for a child of the tests.
package struct SmallDisk {
    package let path: String

    private typealias Unshare = @convention(c) (CInt) -> CInt
    private typealias Mount =
        @convention(c) (UnsafePointer<CChar>?, UnsafePointer<CChar>?, UnsafePointer<CChar>?, CUnsignedLong, UnsafePointer<CChar>?) -> CInt

    private static func symbol<Function>(_ name: String, as type: Function.Type) throws -> Function {
        guard let address = dlsym(nil, name) else { throw SystemError("dlsym", ENOSYS) }
        return unsafeBitCast(address, to: type)
    }

    package init(at path: String) throws {
        self.path = path
        let unshare = try Self.symbol("unshare", as: Unshare.self), mount = try Self.symbol("mount", as: Mount.self)
        let newNamespace: CInt = 0x20000
        let recursivePrivate: CUnsignedLong = 0x44000
        guard unshare(newNamespace) == 0, mount(nil, "/", nil, recursivePrivate, nil) == 0,
            mount("none", path, "tmpfs", 0, "size=1m,mode=700") == 0
        else { throw SystemError("mount") }
    }

    package func makeReadOnly() throws {
        let mount = try Self.symbol("mount", as: Mount.self)
        let remountReadOnly: CUnsignedLong = 0x21
        guard mount("none", path, nil, remountReadOnly, nil) == 0 else { throw SystemError("mount") }
    }

    /// Writes until nothing more fits.
    package func fill() {
        let file = open("\(path)/ballast", O_WRONLY | O_CREAT, 0o600)
        defer { close(file) }
        let bytes = [UInt8](repeating: 1, count: 4096)
        while write(file, bytes, bytes.count) > 0 {}
    }

    package func makeRoom() { unlink("\(path)/ballast") }
}

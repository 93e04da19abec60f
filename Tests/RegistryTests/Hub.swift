import Glibc
import LinuxIO
import Registry
import Store
import Testing
import Wire

/// A registry of its own for each test, removed with it.
final class Hub: Sendable {
    let registry: Registry
    static let host = "hub.example.net"
    /// 2023-11-14T22:13:20Z
    let now = Timestamp(seconds: 1_700_000_000)

    init() throws {
        var template = Array("/tmp/iotstream-registry-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw SystemError("mkdtemp") }
        let state = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        registry = try Registry.open(RuntimePaths(state: state))
    }

    deinit {
        let paths = registry.paths
        for name in (try? Files.names(in: paths.registry)) ?? [] { unlink("\(paths.registry)/\(name)") }
        rmdir(paths.registry)
        rmdir(paths.state)
    }

    @discardableResult
    func put(
        _ name: ClientIdentity, _ condition: IfMatch = .absent, _ change: (inout IdentityRequest) -> Void = { _ in }
    ) throws(RegistryError) -> Identity {
        var request = IdentityRequest()
        change(&request)
        guard let identity = try registry.perform(.putIdentity(name, request, condition), now: now).identity else {
            throw .invalidOperation("no identity")
        }
        return identity
    }

    func delete(_ name: ClientIdentity, _ condition: IfMatch = .any) throws(RegistryError) {
        try registry.perform(.deleteIdentity(name, condition), now: now)
    }

    /// The changes after a sequence.
    func changes(after sequence: UInt64) throws -> [Change] { try registry.store.changes(after: sequence).changes }
}

/// A device, or a module of one; the ids of tests are valid.
func id(_ device: String, _ module: String? = nil) -> ClientIdentity {
    guard let name = ClientIdentity(deviceID: device, moduleID: module) else { preconditionFailure("bad id in a test") }
    return name
}

func keys(_ identity: Identity) -> (primary: SymmetricKey, secondary: SymmetricKey)? {
    if case .sas(let primary, let secondary) = identity.authentication { (primary, secondary) } else { nil }
}

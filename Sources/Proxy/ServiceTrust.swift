import Console
import Glibc
import LinuxIO
import Trust
import Wire

/// Who this service is to a device, and what it asks of one. Everything lies in one directory unless it is said otherwise:
///
///     service.key     made at first use
///     known_devices   the keys of devices, written at the first stream
///     paths           where the blind switch does not work
struct ServiceTrust: Sendable {
    let identity: RenewedIdentity
    let devices: DevicePolicy
    let paths: PathMemory

    static let identityOption = Option.value(
        "identity", "DIR", "directory of this service's key and known_devices (IOTSTREAM_IDENTITY; default ~/.iotstream)",
        completion: .directory)
    static let knownDevicesOption = Option.value(
        "known-devices", "FILE", "devices' keys, written down at the first stream (default: known_devices in --identity)", completion: .file
    )

    static let options: [Option] = [
        identityOption,
        .value(
            "cert", "FILE", "the service's own certificate chain, to show to devices (default: a key made at first use)", completion: .file),
        .value("key", "FILE", "the certificate's private key", completion: .file),
        knownDevicesOption,
        .value("device-ca", "FILE", "root of the devices' certificates; known_devices is not used then", completion: .file),
    ]

    init(_ arguments: Arguments, _ top: Configuration.Section?) throws(Failure) {
        func text(_ name: String) -> String? { arguments.text(name) ?? top?.text(name) }
        let role = arguments.role, (named, usual) = Self.directory(arguments, top)
        let directory = named ?? usual, pair = try Self.pair(arguments, top)
        var isHomeless = false
        do throws(TrustError) {
            do throws(TrustError) { identity = try Self.identity(pair, directory, role: role) } catch {
                // A user without a home can do without one; whoever has named a directory meant it.
                guard named == nil, pair == nil, Self.isHomeless(error) else { throw error }
                Output.warn(role: role, "\(error.what): this service has a new key each time: name a directory with --identity")
                identity = RenewedIdentity(try OwnIdentity(passingNamed: Self.name))
                isHomeless = true
            }
            if let authority = text("device-ca") {
                devices = .authority(try DeviceAuthority(path: authority))
            } else {
                devices = .pin(KnownDevices(path: Self.knownDevices(arguments, top)) { text in Output.warn(role: role, text) })
            }
        } catch {
            throw Failure(error)
        }
        paths = PathMemory(path: isHomeless ? nil : directory.map { "\($0)/paths" })
    }

    /// In the certificate that carries a key of its own.
    private static let name = "service"

    /// The identity alone, for `--fingerprint`.
    static func identity(_ arguments: Arguments, _ top: Configuration.Section?) throws(Failure) -> OwnIdentity {
        let pair = try pair(arguments, top), (named, usual) = directory(arguments, top)
        do throws(TrustError) { return try identity(pair, named ?? usual, role: arguments.role).current.identity } catch {
            throw Failure(error)
        }
    }

    private static func identity(
        _ pair: (certificate: String, key: String)?, _ directory: String?, role: String
    ) throws(TrustError) -> RenewedIdentity {
        if let pair {
            return try RenewedIdentity(certificatePath: pair.certificate, keyPath: pair.key) { Output.warn(role: role, $0) }
        }
        guard let directory else { throw TrustError(.homeless, "no home directory", "name a directory with --identity") }
        return RenewedIdentity(try OwnIdentity(keyFile: "\(directory)/service.key", commonName: name))
    }

    private static func pair(_ arguments: Arguments, _ top: Configuration.Section?) throws(Failure) -> (certificate: String, key: String)? {
        switch (arguments.text("cert") ?? top?.text("cert"), arguments.text("key") ?? top?.text("key")) {
        case (let certificate?, let key?): return (certificate, key)
        case (nil, nil): return nil
        default: throw .usage("--cert and --key belong together")
        }
    }

    /// The directory that somebody named, and the one that is used otherwise.
    static func directory(_ arguments: Arguments, _ top: Configuration.Section?) -> (named: String?, usual: String?) {
        let named = arguments.text("identity") ?? Environment.nonEmpty("IOTSTREAM_IDENTITY") ?? top?.text("identity")
        return (named, Environment.ownDirectory)
    }

    /// The file of pins; nil for a user without a home who has named nothing.
    static func knownDevices(_ arguments: Arguments, _ top: Configuration.Section?) -> String? {
        let (named, usual) = directory(arguments, top)
        return arguments.text("known-devices") ?? top?.text("known-devices") ?? (named ?? usual).map { "\($0)/known_devices" }
    }

    /// Nothing can be kept there; that a key is there and cannot be used is something else.
    private static func isHomeless(_ error: TrustError) -> Bool {
        switch error.kind {
        case .homeless, .system(ENOENT), .system(ENOTDIR), .system(EROFS): true
        case .system(EACCES), .system(EPERM): !Files.exists(Environment.ownDirectory.map { "\($0)/service.key" } ?? "")
        default: false
        }
    }
}

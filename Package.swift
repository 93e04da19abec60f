// swift-tools-version: 6.2
import PackageDescription

let strict: [SwiftSetting] = [.treatAllWarnings(as: .error)]

/// A room of the house: a module, and the rooms below it that it may know.
func room(_ name: String, knows below: [String]) -> Target {
    .target(name: name, dependencies: below.map { .byName(name: $0) }, swiftSettings: strict)
}

/// The tests of one room.
func tests(of name: String, with others: [String] = []) -> Target {
    .testTarget(
        name: "\(name)Tests", dependencies: (Set([name, "Bytes"] + others).sorted()).map { .byName(name: $0) }, swiftSettings: strict)
}

let package = Package(
    name: "iotstream",
    products: [.executable(name: "iotstream", targets: ["iotstream"])],
    targets: [
        .target(name: "CLinux"),
        .systemLibrary(name: "COpenSSL", pkgConfig: "openssl", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CLMDB", providers: [.apt(["liblmdb-dev"])]),
        .systemLibrary(name: "CJansson", pkgConfig: "jansson", providers: [.apt(["libjansson-dev"])]),

        room("Bytes", knows: []),
        room("LinuxIO", knows: ["CLinux", "Bytes"]),
        room("Wire", knows: ["COpenSSL", "CJansson", "Bytes"]),
        room("TLS", knows: ["COpenSSL", "LinuxIO", "Bytes"]),
        room("Connections", knows: ["TLS", "LinuxIO", "Bytes"]),
        room("Store", knows: ["CLMDB", "CLinux", "LinuxIO", "Bytes"]),
        room("Registry", knows: ["Store", "Wire", "Bytes"]),
        room("Streams", knows: ["Wire", "Bytes"]),
        room("Relay", knows: ["Connections", "Wire", "TLS", "LinuxIO", "Bytes"]),
        room("Dialing", knows: ["Connections", "Wire", "TLS", "LinuxIO", "Bytes"]),
        room("Console", knows: ["CLinux", "Wire", "LinuxIO", "Bytes"]),

        room("Hub", knows: ["Streams", "Relay", "Registry", "Store", "Connections", "Console", "Wire", "TLS", "LinuxIO", "Bytes"]),
        room("Agent", knows: ["Relay", "Dialing", "Connections", "Console", "Wire", "TLS", "LinuxIO", "Bytes"]),
        room("Proxy", knows: ["Relay", "Dialing", "Connections", "Console", "Wire", "TLS", "LinuxIO", "Bytes"]),
        room("Certificates", knows: ["Console", "TLS", "LinuxIO", "Bytes"]),
        .executableTarget(
            name: "iotstream",
            dependencies: [
                "Hub", "Agent", "Proxy", "Certificates", "Registry", "Store", "Dialing", "Console", "Wire", "TLS", "LinuxIO", "Bytes",
            ],
            swiftSettings: strict,
            linkerSettings: [.unsafeFlags(["-use-ld=lld", "-Xlinker", "-z", "-Xlinker", "pack-relative-relocs"])]),

        tests(of: "Bytes"),
        tests(of: "LinuxIO"),
        tests(of: "Connections", with: ["LinuxIO"]),
        tests(of: "Console"),
        tests(of: "Wire"),
    ],
    swiftLanguageModes: [.v6]
)

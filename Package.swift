// swift-tools-version: 6.2
import PackageDescription

/// Set by Tests/Fuzz/run: every module is then built with coverage for libFuzzer, and the fuzzers are targets too.
let fuzzing = Context.environment["IOTSTREAM_FUZZ"] != nil

/// Without `-disable-cmo` code moves between modules in a release build, and the fuzzers see no coverage of it.
let strict: [SwiftSetting] =
    [.treatAllWarnings(as: .error)] + (fuzzing ? [.unsafeFlags(["-sanitize=fuzzer", "-disable-cmo"])] : [])

/// Rooms do without regular expressions, which are 1.1 MB of every binary; `contains(text:)` of Bytes finds a text.
let lean: [SwiftSetting] = strict + [.unsafeFlags(["-Xfrontend", "-disable-implicit-string-processing-module-import"])]
/// Nothing looks up symbols of the executable by name, so the linker may drop what nobody uses; and of the names of all characters,
/// which Swift's library brings along, nothing makes use (clinux.c has the function that takes their place).
let small: [LinkerSetting] = [
    .unsafeFlags([
        "-use-ld=lld", "-Xlinker", "-z", "-Xlinker", "pack-relative-relocs", "-Xlinker", "--no-export-dynamic", "-Xlinker", "--gc-sections",
        "-Xlinker", "--icf=safe", "-Xlinker", "--wrap=_swift_stdlib_getScalarName",
    ])
]

/// Commands and rules that run once for a person's word, not for each byte or message: small before fast.
let brief: [SwiftSetting] = lean + [.unsafeFlags(["-Osize"], .when(configuration: .release))]

/// A room of the house: a module, and the rooms below it that it may know.
func room(_ name: String, knows below: [String], isBrief: Bool = false) -> Target {
    .target(name: name, dependencies: below.map { .byName(name: $0) }, swiftSettings: isBrief ? brief : lean)
}

/// The tests of one room.
func tests(of name: String, with others: [String] = []) -> Target {
    .testTarget(
        name: "\(name)Tests", dependencies: (Set([name, "Bytes"] + others).sorted()).map { .byName(name: $0) }, swiftSettings: strict)
}

/// The fuzzer of a codec, `fuzz-NAME`, in Tests/Fuzz/FOLDER with its inputs beside it in `corpus`.
///
/// To add one: a line in `fuzzers`, by which Tests/Fuzz/run finds it, and in its folder `corpus/` with a dozen inputs and a Swift
/// file whose `@main static func main()` is `runFuzzer { input in … }`; FuzzSupport has `check` and `checkSplits` for the rules.
func fuzzer(_ name: String, in folder: String, of room: String = "Wire") -> Target {
    .executableTarget(
        name: "fuzz-\(name)", dependencies: [.byName(name: room), "Bytes", "FuzzSupport"], path: "Tests/Fuzz/\(folder)",
        exclude: ["corpus"], swiftSettings: strict + [.unsafeFlags(["-parse-as-library"])],
        linkerSettings: [.unsafeFlags(["-sanitize=fuzzer", "-use-ld=lld"])])
}

let fuzzers: [Target] = [
    .target(name: "FuzzSupport", dependencies: ["Bytes"], path: "Tests/Fuzz/Support", swiftSettings: strict),
    fuzzer("http", in: "HTTP"),
    fuzzer("websocket", in: "WebSocket"),
    fuzzer("mqtt", in: "MQTT"),
    fuzzer("sas", in: "SAS"),
    fuzzer("provisioning", in: "Provisioning"),
    fuzzer("connection-string", in: "ConnectionString"),
    fuzzer("config", in: "Configuration"),
    fuzzer("json", in: "JSON"),
    fuzzer("query", in: "Query", of: "Query"),
    fuzzer("twin", in: "Twin", of: "Registry"),
    fuzzer("block-list", in: "BlockList", of: "Blobs"),
    fuzzer("orders", in: "Orders", of: "Registry"),
    fuzzer("enrollment", in: "Enrollment", of: "Enrollments"),
    fuzzer("known-devices", in: "KnownDevices", of: "Trust"),
    fuzzer("authorized-services", in: "AuthorizedServices", of: "Trust"),
    fuzzer("paths", in: "Paths", of: "Trust"),
    fuzzer("registration", in: "Registration", of: "Agent"),
    fuzzer("telemetry-record", in: "TelemetryRecord", of: "Telemetry"),
    fuzzer("client-chain", in: "ClientChain", of: "TLS"),
    fuzzer("audit-line", in: "AuditLine", of: "Audit"),
]

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
        room("TLS", knows: ["CLinux", "COpenSSL", "LinuxIO", "Bytes"]),
        room("Connections", knows: ["TLS", "LinuxIO", "Bytes"]),
        room("Store", knows: ["CLMDB", "CLinux", "LinuxIO", "Bytes"]),
        room("Telemetry", knows: ["CLinux", "Wire", "LinuxIO", "Bytes"]),
        room("Query", knows: ["Wire", "Bytes"]),
        room("Registry", knows: ["Query", "Store", "TLS", "Wire", "Bytes"]),
        room("Enrollments", knows: ["Query", "Store", "TLS", "Wire", "Bytes"], isBrief: true),
        room("Streams", knows: ["Wire", "Bytes"]),
        room("Blobs", knows: ["CLinux", "COpenSSL", "Wire", "LinuxIO", "Bytes"]),
        room("Relay", knows: ["CLinux", "Connections", "Wire", "TLS", "LinuxIO", "Bytes"]),
        room("Dialing", knows: ["Connections", "Wire", "TLS", "LinuxIO", "Bytes"]),
        room("Trust", knows: ["TLS", "Wire", "LinuxIO", "Bytes"]),
        room("Console", knows: ["CLinux", "Wire", "LinuxIO", "Bytes"], isBrief: true),
        room("Audit", knows: ["CLinux", "Console", "Wire", "LinuxIO", "Bytes"]),

        room("Serving", knows: ["Audit", "Connections", "Console", "Wire", "TLS", "LinuxIO", "Bytes"]),

        room(
            "Hub",
            knows: [
                "Audit", "Serving", "Streams", "Blobs", "Relay", "Registry", "Telemetry", "Store", "Connections", "Console", "Wire", "TLS",
                "LinuxIO", "Bytes",
            ]),
        room(
            "Provisioning",
            knows: ["Serving", "Enrollments", "Audit", "Dialing", "Store", "Connections", "Console", "Wire", "TLS", "LinuxIO", "Bytes"],
            isBrief: true),
        room("Agent", knows: ["CLinux", "Relay", "Trust", "Dialing", "Connections", "Console", "Wire", "TLS", "LinuxIO", "Bytes"]),
        room("Proxy", knows: ["Relay", "Trust", "Dialing", "Connections", "Console", "Wire", "TLS", "LinuxIO", "Bytes"], isBrief: true),
        room("Certificates", knows: ["Console", "Wire", "TLS", "LinuxIO", "Bytes"], isBrief: true),
        .executableTarget(
            name: "iotstream",
            dependencies: [
                "Audit", "Hub", "Provisioning", "Agent", "Proxy", "Certificates", "Enrollments", "Registry", "Telemetry", "Store",
                "Dialing",
                "Console", "Wire", "TLS", "LinuxIO",
                "Bytes",
            ],
            swiftSettings: brief,
            linkerSettings: small),

        tests(of: "Bytes"),
        tests(of: "Streams", with: ["Wire"]),
        tests(of: "Blobs", with: ["COpenSSL", "Wire", "LinuxIO"]),
        tests(of: "LinuxIO"),
        tests(of: "Connections", with: ["LinuxIO"]),
        tests(of: "Console", with: ["Wire"]),
        tests(of: "Audit", with: ["SmallDisk", "Wire", "LinuxIO"]),
        tests(of: "TLS", with: ["CLinux", "COpenSSL", "Connections", "LinuxIO"]),
        tests(of: "Certificates", with: ["Console"]),
        tests(of: "Relay", with: ["Connections", "Wire", "TLS", "LinuxIO"]),
        .target(
            name: "ServerDouble", dependencies: ["Connections", "TLS", "LinuxIO", "Bytes"], path: "Tests/Support/ServerDouble",
            swiftSettings: strict),
        .target(name: "SmallDisk", dependencies: ["LinuxIO"], path: "Tests/Support/SmallDisk", swiftSettings: strict),
        tests(of: "Dialing", with: ["ServerDouble", "Connections", "Wire", "TLS", "LinuxIO"]),
        tests(of: "Agent", with: ["ServerDouble", "Dialing", "Connections", "Wire", "LinuxIO"]),
        tests(of: "Proxy", with: ["ServerDouble", "Relay", "Dialing", "Connections", "Console", "Wire", "LinuxIO"]),
        tests(of: "Trust", with: ["TLS", "LinuxIO", "Wire"]),
        tests(of: "Wire"),
        tests(of: "Store", with: ["SmallDisk", "LinuxIO"]),
        tests(of: "Telemetry", with: ["SmallDisk", "CLinux", "LinuxIO"]),
        tests(of: "Query", with: ["Wire"]),
        tests(of: "Enrollments", with: ["Store", "TLS", "Wire", "LinuxIO"]),
        tests(of: "Registry", with: ["Query", "Store", "TLS", "Wire", "LinuxIO"]),
        .executableTarget(
            name: "telemetry-measure", dependencies: ["Telemetry", "LinuxIO", "Bytes"], path: "Tests/Benchmarks/telemetry",
            swiftSettings: strict + [.unsafeFlags(["-parse-as-library"])]),
    ] + (fuzzing ? fuzzers : []),
    swiftLanguageModes: [.v6]
)

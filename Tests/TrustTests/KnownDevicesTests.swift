import Glibc
import LinuxIO
import TLS
import Testing
import Wire

@testable import Trust

/// Fingerprints of nobody's keys.
let shownKeys: [Fingerprint] = (0..<4).compactMap { number in
    Fingerprint("SHA256:" + Base64.encode([UInt8](repeating: UInt8(number), count: 32)).prefix(43))
}

@Suite struct KnownDevicesTests {
    private let hub = HostPort(host: "Hub.Example", port: nil)
    private let scratch: Scratch
    private let complaints = Complaints()
    private let devices: KnownDevices

    init() throws {
        scratch = try Scratch()
        devices = KnownDevices(path: scratch.file("known_devices"), complain: complaints.add)
    }

    private func device(_ id: String, _ module: String? = nil) throws -> ClientIdentity {
        try #require(ClientIdentity(deviceID: id, moduleID: module))
    }

    @Test func aStrangerIsNewAndThenKnown() throws {
        let press = try device("press-17")
        #expect(try devices.verdict(hub: hub, device: press, fingerprint: shownKeys[0]) == .new)
        #expect(!Files.exists(scratch.file("known_devices")))
        #expect(try devices.remember(hub: hub, device: press, fingerprint: shownKeys[0], comment: "in the hall"))
        #expect(try scratch.text("known_devices") == "hub.example press-17 \(shownKeys[0]) in the hall\n")
        #expect(mode(scratch.file("known_devices")) == 0o600)
        #expect(try devices.verdict(hub: hub, device: press, fingerprint: shownKeys[0]) == .known)
        #expect(try devices.verdict(hub: hub, device: press, fingerprint: shownKeys[1]) == .changed(line: 1, old: shownKeys[0]))
        #expect(try KnownDevices(path: devices.path).verdict(hub: hub, device: press, fingerprint: shownKeys[0]) == .known)
    }

    @Test func aHostHasNoCaseAndADeviceHas() throws {
        let press = try device("Press")
        try devices.remember(hub: hub, device: press, fingerprint: shownKeys[0])
        #expect(try devices.verdict(hub: HostPort(host: "HUB.example", port: 443), device: press, fingerprint: shownKeys[0]) == .known)
        #expect(try devices.verdict(hub: HostPort(host: "hub.example.", port: nil), device: press, fingerprint: shownKeys[0]) == .known)
        #expect(try devices.verdict(hub: hub, device: device("press"), fingerprint: shownKeys[0]) == .new)
        #expect(try devices.verdict(hub: hub, device: device("Press", "m"), fingerprint: shownKeys[0]) == .new)
        #expect(try devices.verdict(hub: HostPort(host: "hub.example", port: 8443), device: press, fingerprint: shownKeys[0]) == .new)
    }

    @Test func anyOfSeveralLinesMayFit() throws {
        let press = try device("press")
        try scratch.write(
            "known_devices",
            "\n# two while the key is changed\nhub.example press \(shownKeys[0])\r\n\thub.example\tpress  \(shownKeys[1]) new\n")
        #expect(try devices.verdict(hub: hub, device: press, fingerprint: shownKeys[0]) == .known)
        #expect(try devices.verdict(hub: hub, device: press, fingerprint: shownKeys[1]) == .known)
        #expect(try devices.verdict(hub: hub, device: press, fingerprint: shownKeys[2]) == .changed(line: 4, old: shownKeys[1]))
        #expect(complaints.all.isEmpty)
    }

    @Test func aBrokenLineIsReportedOnceAndHurtsNobodyElse() throws {
        let press = try device("press"), drill = try device("drill"), path = devices.path
        try scratch.write(
            "known_devices",
            "nonsense\nhub.example drill SHA256:short\nhub.example press \(shownKeys[0])\nh:0 press \(shownKeys[0])\n\u{0}\n")
        for _ in 0..<3 {
            #expect(try devices.verdict(hub: hub, device: press, fingerprint: shownKeys[0]) == .known)
            #expect(try devices.verdict(hub: hub, device: device("other"), fingerprint: shownKeys[0]) == .new)
            let error = #expect(throws: TrustError.self) {
                try devices.verdict(hub: hub, device: drill, fingerprint: shownKeys[0])
            }
            #expect(error?.kind == .malformed)
            #expect(error?.what == "\(path):2: the key of drill cannot be read")
        }
        #expect(
            complaints.all == [
                "\(path):1: the second word is no device's id",
                "\(path):2: the third word is no fingerprint (SHA256:… of 50 characters)",
                "\(path):4: the first word is no host or host:port",
                "\(path):5: the first word is no host or host:port",
            ])
    }

    @Test(arguments: [("a b", nil), ("a#1%;$'", "m/n"), ("%20", nil), ("-", ".."), ("a", "b")] as [(String, String?)])
    func everyIdIsOneWordAndComesBack(_ id: String, _ module: String?) throws {
        guard let device = ClientIdentity(deviceID: id, moduleID: module) else { return }  // no id: none can be made
        let pin = PinnedKey(hub: hub, device: device, fingerprint: shownKeys[0], comment: "c d")
        #expect(pin.line.split(separator: " ").count == 5)
        #expect(try PinnedKey(parsing: pin.line) == pin)
    }

    @Test func whoeverIsFasterIsNotOverruled() throws {
        let press = try device("press")
        #expect(try devices.remember(hub: hub, device: press, fingerprint: shownKeys[0]))
        #expect(try KnownDevices(path: devices.path).remember(hub: hub, device: press, fingerprint: shownKeys[0]))
        #expect(try !KnownDevices(path: devices.path).remember(hub: hub, device: press, fingerprint: shownKeys[1]))
        #expect(try scratch.text("known_devices") == "hub.example press \(shownKeys[0])\n")
    }

    @Test func manyWhoRememberAtOnceLoseNothing() async throws {
        let path = devices.path, hub = hub
        try scratch.write("known_devices", "# no end of line")
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<40 {
                group.addTask {
                    guard let device = ClientIdentity(deviceID: "d\(number)") else { return }
                    try KnownDevices(path: path).remember(hub: hub, device: device, fingerprint: shownKeys[number % 4])
                }
            }
            try await group.waitForAll()
        }
        #expect(try devices.all().count == 40)
        #expect(try scratch.text("known_devices").hasPrefix("# no end of line\nhub.example d"))
        #expect(try Files.names(in: scratch.path) == ["known_devices"])
    }

    @Test func aLinkStaysALinkAndAModeAMode() throws {
        try scratch.write("elsewhere", "# shared\n", mode: 0o644)
        symlink(scratch.file("elsewhere"), devices.path)
        try devices.remember(hub: hub, device: device("d"), fingerprint: shownKeys[0])
        #expect(try scratch.text("elsewhere") == "# shared\nhub.example d \(shownKeys[0])\n")
        #expect(mode(scratch.file("elsewhere")) == 0o644)
        var target = [CChar](repeating: 0, count: 8)
        #expect(readlink(devices.path, &target, target.count) > 0)
    }

    @Test func removingADeviceLeavesTheOthers() throws {
        try scratch.write(
            "known_devices",
            "# all\nhub.example a \(shownKeys[0])\nhub.example a SHA256:x\nother a \(shownKeys[0])\nhub.example b \(shownKeys[0])\nwhat\n")
        #expect(try devices.remove(device: device("c")) == 0)
        #expect(try devices.remove(device: device("a"), hub: hub) == 2)
        #expect(try scratch.text("known_devices") == "# all\nother a \(shownKeys[0])\nhub.example b \(shownKeys[0])\nwhat\n")
        #expect(try devices.remove(device: device("a")) == 1)
        #expect(try devices.verdict(hub: HostPort(host: "other", port: nil), device: device("a"), fingerprint: shownKeys[0]) == .new)
        #expect(try KnownDevices(path: scratch.file("none")).remove(device: device("a")) == 0)
    }

    @Test func whatCannotBeWrittenIsRememberedWhileTheProcessLives() throws {
        let press = try device("press")
        try scratch.write("file", "")
        let devices = KnownDevices(path: scratch.file("file/known_devices"))
        #expect(throws: TrustError.self) { try devices.verdict(hub: hub, device: press, fingerprint: shownKeys[0]) }
        let homeless = KnownDevices(path: "/proc/nowhere/known_devices")
        #expect(throws: TrustError.self) { try homeless.remember(hub: hub, device: press, fingerprint: shownKeys[0]) }
        #expect(try homeless.verdict(hub: hub, device: press, fingerprint: shownKeys[0]) == .known)
        #expect(try homeless.verdict(hub: hub, device: press, fingerprint: shownKeys[1]) == .changed(line: 0, old: shownKeys[0]))
        let memory = KnownDevices(path: nil)
        #expect(throws: TrustError.self) { try memory.remember(hub: hub, device: press, fingerprint: shownKeys[0]) }
        #expect(try memory.verdict(hub: hub, device: press, fingerprint: shownKeys[0]) == .known)
    }

    @Test func aFileThatCannotBeReadMakesNobodyAStranger() throws {
        mkdir(devices.path, 0o700)
        let error = #expect(throws: TrustError.self) {
            try devices.verdict(hub: hub, device: device("press"), fingerprint: shownKeys[0])
        }
        #expect(error?.kind == .system(EISDIR))
    }
}

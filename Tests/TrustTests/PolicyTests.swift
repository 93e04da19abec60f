import LinuxIO
import TLS
import Testing
import Wire

@testable import Trust

/// A root, an intermediate below it, and what they issue.
struct Authority {
    static let now: Int64 = 1_800_000_000
    let root: CertificateAuthority, middle: CertificateAuthority

    init(_ name: String = "test") throws {
        let key = try PrivateKey(generating: .p256), other = try PrivateKey(generating: .p256)
        root = try CertificateAuthority(
            certificate: .root(commonName: "\(name) root", key: key, seconds: 86400 * 365, now: Self.now - 10), key: key)
        middle = try CertificateAuthority(
            certificate: root.issue(
                .intermediate(pathLength: 0), commonName: "\(name) middle", for: other, seconds: 86400 * 300, now: Self.now - 10),
            key: other)
    }

    /// A chain as a peer shows it, without the root.
    func chain(_ name: String, _ role: CertificateRole = .client, seconds: Int64 = 86400) throws -> [[UInt8]] {
        let leaf = try middle.issue(role, commonName: name, for: PrivateKey(generating: .p256), seconds: seconds, now: Self.now)
        return [leaf.der, middle.certificate.der]
    }
}

extension AuthorizedServices {
    /// Who came, if it may come in.
    fileprivate func permits(_ chain: [[UInt8]], now: Int64 = Clock.unixSeconds) -> String? {
        if case .permitted(let name) = verdict(chain, now: now) { name } else { nil }
    }
}

@Suite struct DevicePolicyTests {
    private let hub = HostPort(host: "hub.example", port: nil)

    private func device(_ id: String, _ module: String? = nil) throws -> ClientIdentity {
        try #require(ClientIdentity(deviceID: id, moduleID: module))
    }

    private func own(_ scratch: Scratch, _ name: String) throws -> OwnIdentity {
        try OwnIdentity(keyFile: scratch.file(name), commonName: name)
    }

    @Test func aKeyIsPinnedAtTheFirstStreamAndAChangeIsLoud() throws {
        let scratch = try Scratch()
        let policy = DevicePolicy.pin(KnownDevices(path: scratch.file("known_devices"))), press = try device("press-17")
        let first = try own(scratch, "first"), second = try own(scratch, "second")
        func admit(_ identity: OwnIdentity) throws(TrustError) -> DevicePolicy.Admission {
            try policy.admit(hub: hub, device: press, chain: identity.chain.certificates.map(\.der), now: Authority.now)
        }
        #expect(try !policy.insists(hub: hub, device: press))
        #expect(try admit(first) == .remembered(first.fingerprint))
        #expect(try admit(first) == .known)
        #expect(try policy.insists(hub: hub, device: press))
        let error = #expect(throws: TrustError.self) { try admit(second) }
        #expect(error?.exitStatus == 1)
        let path = scratch.file("known_devices")
        #expect(
            error?.description
                == "THE KEY OF press-17 HAS CHANGED: somebody may be listening, or the device has a new key: it shows \(second.fingerprint), "
                + "and \(path):1 has \(first.fingerprint): compare with iotstream agent --fingerprint on the device, and only if that agrees "
                + "remove line 1 of \(path) (iotstream known-devices remove press-17)")
        #expect(try scratch.text("known_devices") == "hub.example press-17 \(first.fingerprint)\n")
        #expect(policy.downgraded(press).what == "the stream would not be encrypted as far as the device, but its key is in \(path)")
    }

    @Test func withoutAPlaceToWriteTheStreamOpensAllTheSame() throws {
        let scratch = try Scratch(), identity = try own(scratch, "k")
        let policy = DevicePolicy.pin(KnownDevices(path: "/proc/nowhere/known_devices"))
        let admission = try policy.admit(hub: hub, device: device("d"), chain: [identity.chain.leaf.der], now: 0)
        guard case .unwritten(identity.fingerprint, _) = admission else {
            Issue.record("\(admission)")
            return
        }
    }

    @Test func whoShowsNothingOrRubbishIsNobody() throws {
        let scratch = try Scratch()
        let policy = DevicePolicy.pin(KnownDevices(path: scratch.file("known_devices")))
        for chain in [[], [[]], [[0x30, 0x03]], [Array("hello".utf8)]] as [[[UInt8]]] {
            let error = #expect(throws: TrustError.self) { try policy.admit(hub: hub, device: device("d"), chain: chain, now: 0) }
            #expect(error?.kind == .untrusted)
        }
        #expect(!Files.exists(scratch.file("known_devices")))
    }

    @Test func anAuthorityVouchesForTheDeviceItNames() throws {
        let scratch = try Scratch(), authority = try Authority(), stranger = try Authority()
        let path = try scratch.write("root.pem", authority.root.certificate.pem)
        let policy = DevicePolicy.authority(try DeviceAuthority(path: path)), press = try device("press-17")
        func admit(_ chain: [[UInt8]], as device: ClientIdentity? = nil, now: Int64 = Authority.now) throws(TrustError) {
            #expect(try policy.admit(hub: hub, device: device ?? press, chain: chain, now: now) == .known)
        }
        func refusal(_ chain: [[UInt8]], as device: ClientIdentity? = nil, now: Int64 = Authority.now) -> String? {
            do throws(TrustError) {
                try admit(chain, as: device, now: now)
                return nil
            } catch {
                return error.kind == .untrusted ? error.description : "kind \(error.kind)"
            }
        }
        try admit(authority.chain("press-17"))
        try admit(authority.chain("press-17", .server(names: [.dns("x")])))  // for whatever else it was made
        try admit(authority.chain("press-17/camera"), as: device("press-17", "camera"))
        #expect(try policy.insists(hub: hub, device: press))

        #expect(
            try refusal(authority.chain("Press-17"))
                == "the device's certificate is Press-17's, not press-17's: the hub may have joined you with another device")
        #expect(try refusal(authority.chain("press-17/camera"))?.hasPrefix("the device's certificate is press-17/camera's, not") == true)
        #expect(try refusal(authority.chain("press-17"), as: device("press-17", "camera")) != nil)
        let wrong = try refusal(stranger.chain("press-17"))
        #expect(wrong?.hasPrefix("its certificate does not lead to one in \(path): ") == true, "\(wrong ?? "")")
        #expect(wrong?.contains(text: "was not signed by the key of this") == true || wrong?.contains(text: "unknown") == true)
        #expect(try refusal(authority.chain("press-17", seconds: 60), now: Authority.now + 3600)?.contains(text: "expired on") == true)
        #expect(try refusal(authority.chain("press-17"), now: Authority.now - 3600)?.contains(text: "not valid before") == true)
        #expect(try refusal([authority.chain("press-17")[0]]) != nil)  // without the intermediate
        #expect(refusal([]) == "it showed no certificate")
        let own = try OwnIdentity(keyFile: scratch.file("k"), commonName: "press-17")
        #expect(refusal([own.chain.leaf.der]) != nil)
    }

    @Test func aFileWithoutRootsIsAnErrorAtTheStart() throws {
        let scratch = try Scratch()
        #expect(throws: TrustError.self) { try DeviceAuthority(path: scratch.write("empty", "")) }
        let missing = #expect(throws: TrustError.self) { try DeviceAuthority(path: scratch.file("none")) }
        #expect(missing?.exitStatus == 66)
    }
}

@Suite struct AuthorizedServicesTests {
    private let scratch: Scratch
    private let complaints = Complaints()
    private let services: AuthorizedServices
    private let known: OwnIdentity, stranger: OwnIdentity

    init() throws {
        scratch = try Scratch()
        services = AuthorizedServices(path: scratch.file("authorized_services"), complain: complaints.add)
        known = try OwnIdentity(keyFile: scratch.file("known"), commonName: "service")
        stranger = try OwnIdentity(keyFile: scratch.file("stranger"), commonName: "service")
    }

    private func chain(_ identity: OwnIdentity) -> [[UInt8]] { identity.chain.certificates.map(\.der) }

    @Test func onlyListedKeysComeIn() throws {
        try scratch.write("authorized_services", "# who may\n\n\(known.fingerprint) anna's laptop \n")
        #expect(services.permits(chain(known)) == "anna's laptop")
        #expect(services.permits(chain(stranger)) == nil)
        #expect(services.permits([]) == nil)
        #expect(services.permits([[1, 2, 3]]) == nil)
        #expect(
            services.verdict(chain(stranger))
                == .refused(reason: "the service's key \(stranger.fingerprint) is not in \(services.path)"))
        #expect(complaints.all.isEmpty)
        try scratch.write("authorized_services", "\(stranger.fingerprint)")
        #expect(services.permits(chain(known)) == nil)
        #expect(services.permits(chain(stranger)) == stranger.fingerprint.description)
    }

    @Test func anEmptyOrMissingListLetsNobodyIn() throws {
        #expect(services.permits(chain(known)) == nil)
        #expect(complaints.all == ["\(services.path): no such file or directory: nobody is let in"])
        try scratch.write("authorized_services", "# nobody\n")
        #expect(services.permits(chain(known)) == nil)
        #expect(complaints.all.count == 1)
    }

    @Test func aListThatNeedNotBeThereCountsFromTheMomentItIs() throws {
        let services = AuthorizedServices(path: services.path, isOptional: true, complain: complaints.add)
        #expect(!services.isInForce)
        try scratch.write("authorized_services", "\(known.fingerprint)\n")
        #expect(services.isInForce)
        #expect(services.permits(chain(known)) != nil && services.permits(chain(stranger)) == nil)
        Files.remove(services.path)
        #expect(services.isInForce)
        #expect(services.permits(chain(known)) == nil)
        #expect(self.services.isInForce)
    }

    @Test(arguments: ["rubbish", "cert-authority", "cert-authority missing.pem", "SHA256:short anna"])
    func oneBadLineLetsNobodyInAndIsTold(_ line: String) throws {
        try scratch.write("authorized_services", "\(known.fingerprint)\n\(line)\n")
        for _ in 0..<3 { #expect(services.permits(chain(known)) == nil) }
        #expect(complaints.all.count == 1)
        #expect(complaints.all.first?.hasPrefix("\(services.path):2: ") == true)
        #expect(throws: TrustError.self) { try services.check() }
        try scratch.write("authorized_services", "\(known.fingerprint)\n")
        #expect(services.permits(chain(known)) != nil)
    }

    @Test(arguments: [0o620, 0o602, 0o666] as [UInt32]) func aListThatOthersMayWriteLetsNobodyIn(_ open: UInt32) throws {
        try scratch.write("authorized_services", "\(known.fingerprint)\n", mode: open)
        #expect(services.permits(chain(known)) == nil)
        #expect(complaints.all == ["\(services.path): others may write to it: nobody is let in"])
    }

    @Test func anAuthorityLetsItsCertificatesIn() throws {
        let authority = try Authority("fleet"), other = try Authority("other")
        try scratch.write("fleet.pem", authority.root.certificate.pem)
        try scratch.write(
            "authorized_services", "cert-authority fleet.pem operator of press 17\ncert-authority \(scratch.file("fleet.pem")) anna\n")
        let now = Authority.now
        #expect(try services.permits(authority.chain("anna"), now: now) == "anna")
        #expect(try services.permits(authority.chain("operator of press 17"), now: now) == "operator of press 17")
        #expect(try services.permits(authority.chain("ANNA"), now: now) == nil)
        #expect(try services.permits(other.chain("anna"), now: now) == nil)
        #expect(try services.permits(authority.chain("anna", seconds: 10), now: now + 3600) == nil)
        #expect(services.permits(chain(known), now: now) == nil)
        try scratch.write("authorized_services", "cert-authority fleet.pem\n")
        #expect(try services.permits(authority.chain("anybody"), now: now) == "anybody")
        let expired = try services.verdict(authority.chain("anybody", seconds: 10), now: now + 3600)
        guard case .refused(let reason) = expired else {
            Issue.record("let in")
            return
        }
        #expect(reason.contains(text: "expired"), "\(reason)")
        // The authority's own file is looked at as well.
        try scratch.write("fleet.pem", other.root.certificate.pem)
        #expect(try services.permits(authority.chain("anybody"), now: now) == nil)
        #expect(try services.permits(other.chain("anybody"), now: now) == "anybody")
    }
}

@Suite struct PathMemoryTests {
    private let hub = HostPort(host: "Hub.example", port: nil)

    @Test func aBadPlaceIsRememberedForADay() throws {
        let scratch = try Scratch(), path = scratch.file("new/paths")
        let memory = PathMemory(path: path), now: Int64 = 1_800_000_000
        #expect(!memory.isBad(hub: hub, way: "direct", now: now))
        memory.noteBad(hub: hub, way: "direct", now: now)
        #expect(try scratch.text("new/paths") == "hub.example direct 1800000000\n")
        for memory in [memory, PathMemory(path: path)] {
            #expect(memory.isBad(hub: hub, way: "direct", now: now))
            #expect(memory.isBad(hub: hub, way: "direct", now: now + 86_399))
            #expect(!memory.isBad(hub: hub, way: "direct", now: now + 86_400))
            #expect(!memory.isBad(hub: hub, way: "direct", now: now - 301))
            #expect(!memory.isBad(hub: hub, way: "proxy a b", now: now))
            #expect(!memory.isBad(hub: HostPort(host: "hub.example", port: 8443), way: "direct", now: now))
        }
        memory.noteBad(hub: hub, way: "proxy a b", now: now + 90_000)  // what is too old goes
        #expect(try scratch.text("new/paths") == "hub.example proxy%20a%20b 1800090000\n")
        #expect(PathMemory(path: path).isBad(hub: hub, way: "proxy a b", now: now + 90_000))
        memory.noteGood(hub: hub, way: "proxy a b", now: now + 90_000)
        #expect(!memory.isBad(hub: hub, way: "proxy a b", now: now + 90_000))
        #expect(try scratch.text("new/paths") == "")
    }

    @Test func rubbishIsDroppedAndAFullDiskForgotten() throws {
        let scratch = try Scratch(), now: Int64 = 1_800_000_000
        try scratch.write("paths", "x\nhub.example direct -1\nhub.example direct 99999999999999999999\nother - 1799999999\n\u{0}\n")
        let memory = PathMemory(path: scratch.file("paths"))
        #expect(!memory.isBad(hub: hub, way: "direct", now: now))
        memory.noteBad(hub: hub, way: "direct", now: now)
        #expect(try scratch.text("paths") == "other - 1799999999\nhub.example direct 1800000000\n")
        for path in [nil, "/proc/nowhere/paths"] {
            let memory = PathMemory(path: path)
            memory.noteBad(hub: hub, way: "", now: now)
            #expect(memory.isBad(hub: hub, way: "", now: now))
        }
    }

    @Test func itDoesNotGrowWithoutEnd() throws {
        let scratch = try Scratch(), now: Int64 = 1_800_000_000
        let lines = (0..<1000).map { "h\($0) direct \(now)\n" }.joined()
        let memory = PathMemory(path: try scratch.write("paths", lines))
        memory.noteBad(hub: hub, way: "direct", now: now)
        #expect(try scratch.text("paths").split(separator: "\n").count == PathMemory.limit)
        #expect(memory.isBad(hub: hub, way: "direct", now: now))
        #expect(memory.isBad(hub: HostPort(host: "h999", port: nil), way: "direct", now: now))
        #expect(!memory.isBad(hub: HostPort(host: "h0", port: nil), way: "direct", now: now))
    }
}

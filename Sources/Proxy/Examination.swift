import Connections
import Console
import Dialing
import Glibc
import LinuxIO
import TLS
import Wire

/// The work of `iotstream doctor`, one step after the other on the calling thread; each step has a reactor of its own.
struct Examination {
    private let place: HostPort
    private let access: HubAccess
    private let credentials: ConnectionString?
    private static let apiVersion = "api-version=2021-04-12"
    private static let connectMilliseconds = 10_000
    /// A certificate that ends sooner deserves a word.
    private static let renewalDays: Int64 = 30
    /// From here on tokens that are made here may be refused there, seconds.
    private static let clockTolerance: Int64 = SASToken.toleranceSeconds

    init(_ arguments: Arguments) throws(Failure) {
        var credentials: ConnectionString?
        if let text = try arguments.connectionString() {
            do { credentials = try ConnectionString(parsing: text) } catch { throw .config("the \(error)") }
        }
        if let host = arguments.operandList("HOST").first {
            guard let place = HostPort(parsing: host) else { throw .usage("\(host): no host or host:port", "like hub.example.net:8443") }
            // The credentials of another hub prove nothing here.
            if let own = credentials?.host, !ASCII.equalIgnoringCase(own.host, place.host) { credentials = nil }
            self.place = place
        } else if let host = credentials?.host {
            place = host
        } else {
            throw .usage("which hub?", "name it, or its connection string with --connection-string-file or IOTSTREAM_CONNECTION_STRING")
        }
        self.credentials = credentials
        if let authority = arguments.text("ca"), !Files.isReadable(authority) { throw .errno(errno, authority) }
        do throws(DialError) {
            access = try HubAccess(
                authorityPath: arguments.text("ca"),
                proxies: try ProxyChoice(option: arguments.text("proxy"), environment: Environment.text))
        } catch {
            switch error {
            case .file(let path, let reason): throw .data("\(path): \(reason)")
            case .badSetting: throw .config("\(error)")
            default: throw .system("\(error)")
            }
        }
    }

    /// Every step that can be gone; what lies behind one that failed is left out.
    func run() -> [Finding] {
        let hub = HostPort(host: place.host, port: place.port ?? 443)
        var findings = [proxyFinding(hub)]
        do throws(DialError) {
            findings += found(try reach(hub), at: hub)
        } catch {
            findings += missed(error)
            return findings
        }
        findings += examineService()
        findings.append(examineWebSocket(hub))
        if hub.port == 443 { findings.append(examineMQTT()) }
        return findings
    }

    private func proxyFinding(_ hub: HostPort) -> Finding {
        if let proxy = access.proxies.proxy(for: hub) { return Finding("proxy", "\(proxy) is used") }
        if let usual = access.proxies.usual { return Finding("proxy", "\(usual) is not used: \(hub.host) is an exception") }
        return Finding("proxy", "none is used")
    }

    // The way there

    private struct Reached: Sendable {
        let marks: HubDial.Marks?
        let peer: String
        let version: String
        let chain: [[UInt8]]
    }

    private func reach(_ place: HostPort) throws(DialError) -> Reached {
        var outcome = Result<Reached, DialError>.failure(.system("the event loop ended early"))
        try onReactor { reactor in
            var dial: HubDial?
            dial = HubDial(to: place, through: access, spare: .none, connectMilliseconds: Self.connectMilliseconds, on: reactor) {
                result, reactor in
                switch consume result {
                case .success(let channel):
                    outcome = .success(
                        Reached(
                            marks: dial?.marks, peer: channel.peer?.description ?? "",
                            version: channel.transport.version ?? "",
                            chain: channel.peerChain))
                case .failure(let error): outcome = .failure(error)
                }
                dial = nil
                reactor.stop()
            }
        }
        return try outcome.get()
    }

    private func onReactor(_ work: (Reactor) -> Void) throws(DialError) {
        do throws(SystemError) { try Reactor.runHere(work) } catch { throw .system(error.description) }
    }

    private func found(_ reached: Reached, at hub: HostPort) -> [Finding] {
        let marks = reached.marks
        func took(_ from: UInt64?, _ to: UInt64?) -> String {
            guard let from, let to, to >= from else { return "" }
            return " (\(BenchReport.text(to - from)))"
        }
        let proxy = access.proxies.proxy(for: hub)
        var findings = [
            Finding("name", "\(proxy?.place.host ?? hub.host) has an address\(took(marks?.began, marks?.resolved))"),
            Finding("connection", "\(reached.peer) answers\(took(marks?.resolved, marks?.connected))"),
        ]
        if let proxy { findings.append(Finding("tunnel", "\(proxy) lets us through\(took(marks?.connected, marks?.tunnelled))")) }
        findings.append(Finding("tls", "\(reached.version)\(took(marks?.tunnelled ?? marks?.connected, marks?.encrypted))"))
        if let leaf = reached.chain.first, let certificate = try? Certificate(der: leaf) {
            let days = (certificate.notAfter - Clock.unixSeconds) / 86_400
            findings.append(
                days < Self.renewalDays
                    ? Finding(
                        "certificate", .warning, "ends in \(days) days; issued by \(certificate.issuer)",
                        "have the hub's certificate renewed")
                    : Finding("certificate", "good for \(days) days; issued by \(certificate.issuer)"))
        }
        return findings
    }

    private func missed(_ error: DialError) -> [Finding] {
        func failure(_ check: String, _ advice: String) -> Finding { Finding(check, .failure, "\(error)", advice) }
        switch error {
        case .unresolved:
            return [failure("name", "look at the spelling and at /etc/resolv.conf; behind a proxy set https_proxy or --proxy")]
        case .unreachable, .timedOut:
            return [
                failure("connection", "is the hub running, and may this network reach its port? behind a proxy set https_proxy or --proxy")
            ]
        case .proxyRefused(_, 407, _): return [failure("tunnel", "write the proxy as http://user:password@host:port")]
        case .proxyRefused, .proxyBroken: return [failure("tunnel", "have the proxy allow CONNECT to \(place.host)")]
        case .tls(_, .certificateRefused):
            return [
                failure("tls", "trust the right root by --ca, set the clock, or look whether something on the way opens TLS connections")
            ]
        case .tls: return [failure("tls", "is this the hub's HTTPS port? something on the way may cut TLS")]
        default: return [failure("connection", "")]
        }
    }

    // The hub's answers

    private func ask(_ method: String, _ target: String, _ token: String?) throws(DialError) -> HubAnswer {
        let headers: HTTPHeaders = token.map { ["Authorization": $0, "If-Match": "*"] } ?? [:]
        return try HubExchange.perform(
            HubRequest(method, "\(target)?\(Self.apiVersion)", headers: headers), with: place, through: access,
            answerWithinMilliseconds: 15_000)
    }

    private func examineService() -> [Finding] {
        let plain: HubAnswer
        do throws(DialError) { plain = try ask("GET", "/statistics/service", nil) } catch {
            return [Finding("service", .failure, "\(error)", "is this the hub's HTTPS port?")]
        }
        guard plain.status == 401, plain.text?.utf8.contains(UInt8(ascii: "{")) == true else {
            return [
                Finding(
                    "service", .failure, "\(place) answers \(plain.status) where a hub asks for credentials",
                    "is this the hub, or something before it?",
                    exitCode: 1)
            ]
        }
        return [Finding("service", "a hub answers"), clock(plain.hubSeconds)] + (credentials.map { [examine($0)] } ?? [])
    }

    private func clock(_ hub: Int64?) -> Finding {
        guard let hub else { return Finding("clock", .warning, "the hub tells no time", "") }
        let ahead = Clock.unixSeconds - hub, apart = abs(ahead), words = "\(apart) s \(ahead < 0 ? "behind" : "ahead of") the hub's"
        if apart > Self.clockTolerance { return Finding("clock", .failure, words, "set this machine's clock (NTP)", exitCode: 1) }
        return apart > ServiceToken.toleranceSeconds
            ? Finding("clock", .warning, words, "set this machine's clock (NTP)")
            : Finding("clock", apart < 2 ? "agrees with the hub's" : words)
    }

    /// Asks for something that changes nothing, whatever the answer.
    private func examine(_ credentials: ConnectionString) -> Finding {
        func refused(_ who: String, _ advice: String) -> Finding {
            Finding("credentials", .failure, "the hub does not accept \(who)", advice, exitCode: EX_NOPERM)
        }
        guard let token = token(credentials) else { return Finding("credentials", .warning, "nothing in the connection string to try", "") }
        do throws(DialError) {
            guard let client = credentials.client else {
                let who = "policy \(credentials.policy ?? "")"
                for target in ["/statistics/service", "/streams"] where try ask("GET", target, token).status == 200 {
                    return Finding("credentials", "\(who) is accepted")
                }
                return refused(who, "iotstream policy connection-string NAME prints a good one")
            }
            guard client.moduleID == nil else { return Finding("credentials", .warning, "\(client): a module's are not tried", "") }
            // No message has this lock, so none is taken.
            let status = try ask(
                "DELETE", "/devices/\(PercentCoding.encode(client.deviceID, leaving: .unreserved))/messages/deviceBound/doctor", token
            ).status
            switch status {
            case 401, 403:
                return refused("\(client)", "is the device enabled, and is its key this one? iotstream device connection-string ID")
            case 404: return refused("\(client)", "no such device there: iotstream device create makes it")
            case 500...: return Finding("credentials", .warning, "the hub answers \(status)", "try again later")
            default: return Finding("credentials", "device \(client) is accepted")
            }
        } catch {
            return Finding("credentials", .failure, "\(error)", "")
        }
    }

    private func token(_ credentials: ConnectionString) -> String? {
        switch credentials.credential {
        case .signature(let text): return text
        case .key(let key):
            let host = credentials.host.host, path = credentials.client.map { "\(host)/\($0.path)" } ?? host
            return SASToken.make(resource: path, key: key, expiry: Clock.unixSeconds + 300, policy: credentials.policy)
        case .x509, nil: return nil
        }
    }

    /// A WebSocket that is closed again before anything is said.
    private func examineWebSocket(_ hub: HostPort) -> Finding {
        var failure: DialError?
        do throws(DialError) {
            try onReactor { reactor in
                let url = StreamURL(host: hub.host, port: hub.port ?? 443, path: "/$iothub/websocket")
                WebSocketUpgrade(to: url, through: access, spare: .none, subprotocols: ["mqtt"], on: reactor) { result, reactor in
                    switch consume result {
                    case .success(let upgraded): _ = upgraded.take()
                    case .failure(let error): failure = error
                    }
                    reactor.stop()
                }
            }
        } catch {
            failure = error
        }
        guard let failure else { return Finding("websocket", "the way is open for WebSockets: devices and streams") }
        return Finding("websocket", .failure, "\(failure)", "let WebSockets to \(hub.host) through the proxy or firewall")
    }

    private func examineMQTT() -> Finding {
        do throws(DialError) {
            _ = try reach(HostPort(host: place.host, port: 8883))
            return Finding("mqtt", "port 8883 is open")
        } catch {
            return Finding("mqtt", .warning, "\(error)", "needed only by devices that do not use WebSockets")
        }
    }
}

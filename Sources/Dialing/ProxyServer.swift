import Wire

/// A forwarding HTTP proxy. Prints without its password.
package struct ProxyServer: Equatable, Sendable, CustomStringConvertible, CustomReflectable {
    /// Its port is always there.
    package let place: HostPort
    /// Base64 of `user:password`, as Basic authentication has it (RFC 7617).
    let credentials: String?

    /// Reads `[http://][user[:password]@]host[:port][/]`; user and password may be percent-encoded, the port is 80 unless named.
    /// Throws `badSetting`.
    package init(parsing text: String) throws(DialError) {
        var rest = Substring(text)
        if let colon = rest.utf8.firstIndex(of: UInt8(ascii: ":")), rest[colon...].utf8.starts(with: "://".utf8) {
            guard ASCII.equalIgnoringCase(String(rest[..<colon]), "http") else {
                throw .badSetting("the proxy is not an http:// one: write it like http://proxy.example:3128")
            }
            rest = Substring(rest[colon...].utf8.dropFirst(3))
        }
        while rest.utf8.last == UInt8(ascii: "/") { rest.removeLast() }
        var credentials: String?
        if let at = rest.utf8.lastIndex(of: UInt8(ascii: "@")) {
            let written = rest[..<at].utf8.split(separator: UInt8(ascii: ":"), maxSplits: 1, omittingEmptySubsequences: false)
            let parts = written.map { PercentCoding.decode(String(Substring($0))) }
            guard let user = parts.first ?? nil, let password = parts.count > 1 ? parts[1] : "", !user.utf8.contains(UInt8(ascii: ":")),
                (user + password).utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F })
            else { throw .badSetting("the proxy's user name or password is malformed: percent-encode special characters") }
            credentials = Base64.encode(Array("\(user):\(password)".utf8))
            rest = rest[rest.utf8.index(after: at)...]
        }
        guard let place = HostPort(parsing: String(rest)) else {
            throw .badSetting("the proxy has no valid host and port: write it like http://proxy.example:3128")
        }
        self.place = HostPort(host: place.host, port: place.port ?? 80)
        self.credentials = credentials
    }

    package var description: String { place.description }
    package var customMirror: Mirror { Mirror(self, children: ["place": place]) }

    /// The request that opens a tunnel to `target` (RFC 9110 section 9.3.6).
    func request(to target: HostPort) -> HTTPRequestHead {
        var headers: HTTPHeaders = ["Host": target.description]
        if let credentials { headers.add("Proxy-Authorization", "Basic \(credentials)") }
        return HTTPRequestHead(method: "CONNECT", target: target.description, headers: headers)
    }
}

/// Which connections go through a proxy.
package struct ProxyChoice: Sendable {
    private let server: ProxyServer?
    private let exceptions: [ProxyException]

    /// Straight to every hub.
    package static let none = ProxyChoice(server: nil, exceptions: [])

    private init(server: ProxyServer?, exceptions: [ProxyException]) {
        self.server = server
        self.exceptions = exceptions
    }

    /// This proxy for every hub: somebody named it on purpose.
    package init(always server: ProxyServer) { self.init(server: server, exceptions: []) }

    /// What the usual variables say: `https_proxy`, else `all_proxy`; `no_proxy` lists exceptions. Lower case goes before upper case;
    /// an empty variable counts as none. Throws `badSetting`, which names the variable.
    /// - Parameter variable: looks one up.
    package init(environment variable: (String) -> String?) throws(DialError) {
        func first(_ names: [String]) -> (name: String, text: String)? {
            for name in names { if let text = variable(name), !text.isEmpty { return (name, text) } }
            return nil
        }
        guard let found = first(["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]) else {
            self = .none
            return
        }
        do throws(DialError) {
            server = try ProxyServer(parsing: found.text)
        } catch {
            throw .badSetting("\(found.name): \(error)")
        }
        exceptions = ProxyException.list(first(["no_proxy", "NO_PROXY"])?.text ?? "")
    }

    /// `--proxy` when given, else the environment.
    package init(option: String?, environment variable: (String) -> String?) throws(DialError) {
        if let option { self.init(always: try ProxyServer(parsing: option)) } else { try self.init(environment: variable) }
    }

    /// The proxy for this place; nil: go straight.
    package func proxy(for place: HostPort) -> ProxyServer? {
        exceptions.contains { $0.covers(place) } ? nil : server
    }

    /// The proxy, whether or not there are exceptions; for people who ask what is in use.
    package var usual: ProxyServer? { server }
}

import Console
import Registry
import Store
import Wire

/// Where an administration command acts: on the state directory of this machine, or on a hub over REST. Documents have the form of the
/// service API either way.
enum Administration {
    case state(Registry)
    case service(ServiceClient)

    /// The options by which a person chooses.
    static let options: [Option] = [.state] + Option.connectionString + [.ca, .json]

    /// The place that the command line and the environment name.
    ///
    /// `--connection-string…` and `--state` decide, then `IOTSTREAM_CONNECTION_STRING`, then `IOTSTREAM_STATE`, then the default directory.
    static func find(_ arguments: Arguments) throws(Failure) -> Administration {
        switch try place(arguments) {
        case .state(let paths): .state(try openRegistry(paths))
        case .service(let client): .service(client)
        }
    }

    /// Where a command acts, before anything is opened there.
    enum Place {
        case state(RuntimePaths)
        case service(ServiceClient)
    }

    static func place(_ arguments: Arguments) throws(Failure) -> Place {
        let namesService = arguments.flag("connection-string") || arguments.flag("connection-string-file")
        if namesService, arguments.flag("state") {
            throw .usage("both a state directory and a connection string are given", "leave one of them out")
        }
        if !arguments.flag("state"), let text = try arguments.connectionString() {
            return .service(try ServiceClient(connectionString: text, ca: arguments.text("ca")))
        }
        return .state(RuntimePaths(state: arguments.stateDirectory))
    }

    private static func openRegistry(_ paths: RuntimePaths) throws(Failure) -> Registry {
        var options = Store.Options()
        options.create = false
        do { return try Registry.open(paths, options) } catch { throw Failure(error) }
    }

    // MARK: - Identities

    /// The document of a device or a module.
    func identity(_ name: ClientIdentity) throws(Failure) -> JSONValue {
        switch self {
        case .state(let registry): try asking { () throws(RegistryError) in Self.asStored(try registry.identity(name)) }
        case .service(let client): try client.get(name.segments)
        }
    }

    /// The document without what only a running hub knows.
    private static func asStored(_ identity: Identity) -> JSONValue {
        var document = identity.document()
        for live in ["connectionState", "connectionStateUpdatedTime", "lastActivityTime", "cloudToDeviceMessageCount"] {
            document[live] = nil
        }
        return document
    }

    /// Visits the document of every device.
    func forEachDevice(_ body: (JSONValue) throws(Failure) -> Void) throws(Failure) {
        switch self {
        case .state(let registry):
            var failure: Failure?
            try asking { () throws(RegistryError) in
                try registry.forEachDevice { identity throws(RegistryError) in
                    do throws(Failure) { try body(Self.asStored(identity)) } catch { failure = error }
                    return failure == nil
                }
            }
            if let failure { throw failure }
        case .service(let client):
            let page = try client.get(["devices"], query: [("top", "1000")]).array ?? []
            for document in page { try body(document) }
            if page.count >= 1_000 {
                throw .refused("the service API lists no more than 1000 devices", "run this on the hub's machine for all of them")
            }
        }
    }

    /// The documents of a device's modules.
    func modules(of device: String) throws(Failure) -> [JSONValue] {
        switch self {
        case .state(let registry):
            try asking { () throws(RegistryError) in try registry.modules(of: device).map(Self.asStored) }
        case .service(let client): try client.get(["devices", device, "modules"]).array ?? []
        }
    }

    /// Creates an identity, or replaces the one with this etag.
    ///
    /// - Parameter etag: nil: there must be none yet.
    /// - Returns: the document as stored.
    func put(_ name: ClientIdentity, _ document: JSONValue, etag: String? = nil) throws(Failure) -> JSONValue {
        switch self {
        case .state(let registry):
            return try asking { () throws(RegistryError) in
                let request = try IdentityRequest(json: document, for: name)
                let outcome = try registry.order(.putIdentity(name, request, IfMatch(header: etag)))
                return outcome.identity?.document() ?? .null
            }
        case .service(let client):
            return try client.send("PUT", name.segments, document, ifMatch: etag)
        }
    }

    func delete(_ name: ClientIdentity) throws(Failure) {
        switch self {
        case .state(let registry): try asking { () throws(RegistryError) in _ = try registry.order(.deleteIdentity(name, .any)) }
        case .service(let client): _ = try client.send("DELETE", name.segments, nil, ifMatch: "*")
        }
    }

    /// Enables or disables a device; a live connection of a disabled one is cut.
    func setStatus(_ device: String, enabled: Bool, reason: String?) throws(Failure) {
        switch self {
        case .state(let registry):
            try asking { () throws(RegistryError) in
                _ = try registry.order(.setStatus(device: device, enabled ? .enabled : .disabled, reason: reason))
            }
        case .service:
            let name = try ClientIdentity.device(device)
            var document = try identity(name)
            document["status"] = enabled ? "enabled" : "disabled"
            document["statusReason"] = reason.map { .string($0) } ?? .null
            _ = try put(name, document, etag: document["etag"]?.string ?? "*")
        }
    }

    /// Makes a device's key anew, or changes the places of the two.
    func rotateKey(_ name: ClientIdentity, _ slot: KeySlot) throws(Failure) -> JSONValue {
        switch self {
        case .state(let registry):
            try asking { () throws(RegistryError) in
                try registry.order(.rotateKey(name, slot, .any)).identity?.document() ?? .null
            }
        case .service(let client): try client.send("POST", name.segments + ["keys", slot.rawValue], nil)
        }
    }

    // MARK: - Policies

    /// `{"keyName", "primaryKey", "secondaryKey", "rights"}` of each.
    func policies() throws(Failure) -> [JSONValue] {
        switch self {
        case .state(let registry): try asking { () throws(RegistryError) in try registry.policies().map(\.json) }
        case .service(let client): try client.get(["policies"]).array ?? []
        }
    }

    func policy(_ name: String) throws(Failure) -> JSONValue {
        guard let policy = try policies().first(where: { $0["keyName"]?.string == name }) else {
            throw .refused("\(name): no such policy", "iotstream policy list shows them")
        }
        return policy
    }

    func createPolicy(_ name: String, rights: String) throws(Failure) -> JSONValue {
        let parsed = try asking { () throws(RegistryError) in try Rights(parsing: rights) }
        switch self {
        case .state(let registry):
            return try asking { () throws(RegistryError) in
                try registry.order(.createPolicy(name: name, parsed)).policy?.json ?? .null
            }
        case .service(let client):
            let words = parsed.description.split(whereSeparator: { $0 == "," || $0 == " " }).map { JSONValue.string(String($0)) }
            return try client.send("PUT", ["policies", name], ["rights": .array(words)])
        }
    }

    func deletePolicy(_ name: String, force: Bool) throws(Failure) {
        switch self {
        case .state(let registry):
            try asking { () throws(RegistryError) in _ = try registry.order(.deletePolicy(name: name, force: force)) }
        case .service(let client): _ = try client.send("DELETE", ["policies", name], nil)
        }
    }

    func rotatePolicy(_ name: String, _ slot: KeySlot) throws(Failure) -> JSONValue {
        switch self {
        case .state(let registry):
            try asking { () throws(RegistryError) in try registry.order(.rotatePolicy(name: name, slot)).policy?.json ?? .null }
        case .service(let client):
            try client.send("POST", ["policies", name, "rotate"], nil, query: [("key", slot.rawValue)])
        }
    }

    // MARK: - Quotas

    /// `{"deviceId", "rate", "streamRate", "streams", "newStreamsPerSecond"}` of each device that has a quota of its own.
    func quotas() throws(Failure) -> [JSONValue] {
        switch self {
        case .state(let registry):
            try asking { () throws(RegistryError) in try registry.quotas().map { $0.quota.document(of: $0.device) } }
        case .service(let client): try client.get(["quotas"]).array ?? []
        }
    }

    func quota(of device: String) throws(Failure) -> JSONValue {
        switch self {
        case .state(let registry):
            try asking { () throws(RegistryError) in try registry.quota(of: device).document(of: device) }
        case .service(let client): try client.get(["quotas", device])
        }
    }

    /// Streams that run keep to it at once.
    func putQuota(_ quota: Quota, of device: String) throws(Failure) {
        switch self {
        case .state(let registry):
            try asking { () throws(RegistryError) in _ = try registry.order(.putQuota(device: device, quota)) }
        case .service(let client): _ = try client.send("PUT", ["quotas", device], quota.document(of: device))
        }
    }

    // MARK: - Messages

    /// Puts a message into a device's queue.
    func send(_ message: CloudMessage, to device: String) throws(Failure) {
        switch self {
        case .state(let registry):
            try asking { () throws(RegistryError) in _ = try registry.order(.enqueue(message, device: device)) }
        case .service(let client): try client.send(message, to: device)
        }
    }

    /// Tells how many messages were removed.
    func purgeMessages(of device: String) throws(Failure) -> Int {
        switch self {
        case .state(let registry):
            let outcome = try asking { () throws(RegistryError) in try registry.order(.purge(device: device)) }
            if case .removed(let count) = outcome { return count }
            return 0
        case .service(let client):
            return Int(clamping: try client.send("DELETE", ["devices", device, "commands"], nil)["totalMessagesPurged"]?.integer ?? 0)
        }
    }

    // MARK: - The hub itself

    /// The running hub, for what only it can do. On the hub's machine a policy of the registry lets us in.
    func running(_ arguments: Arguments) throws(Failure) -> ServiceClient {
        switch self {
        case .service(let client): return client
        case .state(let registry):
            let host = try hubHost(arguments)
            let usable = try asking { () throws(RegistryError) in
                try registry.policies().first { $0.rights.isSuperset(of: .serviceConnect) }
            }
            guard let usable else {
                throw .refused("no policy may talk to devices", "iotstream policy create NAME --rights ServiceConnect makes one")
            }
            let text = try ConnectionStrings.of(policy: usable.json, host: host)
            return try ServiceClient(connectionString: text, ca: arguments.text("ca"))
        }
    }

    /// The hub's name for connection strings, with a port when that is not 443.
    ///
    /// - Parameter arguments: `--hostname` decides.
    func hubHost(_ arguments: Arguments) throws(Failure) -> HostPort {
        if let text = arguments.text("hostname") {
            guard let host = HostPort(parsing: text) else {
                throw .usage("--hostname \(text): not a host name", "write it like hub.example")
            }
            return host
        }
        switch self {
        case .state(let registry):
            if let host = try asking({ () throws(RegistryError) in try registry.hubFacts() })?.host { return host }
            throw .tryAgain("the hub's name is not known before its first start", "start the hub, or name it with --hostname")
        case .service(let client): return client.host
        }
    }
}

extension ClientIdentity {
    /// The path of the identity in the service API, a segment each.
    var segments: [String] { ["devices", deviceID] + (moduleID.map { ["modules", $0] } ?? []) }

    /// The device, or DEVICE/MODULE, that an operand names, with the option `--module`.
    static func named(by arguments: Arguments, _ operand: String) throws(Failure) -> ClientIdentity {
        let parts = try arguments.required(operand).split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        let module = arguments.text("module")
        if parts.count > 1, module != nil { throw .usage("a module is named twice", "write DEVICE/MODULE, or --module MODULE") }
        return try .device(parts[0], module: parts.count > 1 ? parts[1] : module)
    }

    static func device(_ id: String, module: String? = nil) throws(Failure) -> ClientIdentity {
        for (what, text) in [("device", id), ("module", module ?? "m")] where !Identifier.isValidID(text) {
            throw .data("\(text): not an identifier", "a \(what)'s has 1 to 128 letters, digits and - . + % _ # * ? ! ( ) , : = @ $ '")
        }
        guard let name = ClientIdentity(deviceID: id, moduleID: module) else { throw .data("\(id): not an identifier") }
        return name
    }
}

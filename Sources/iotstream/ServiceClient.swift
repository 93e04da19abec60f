import Console
import Registry
import Wire

/// The service API of a hub, for tools: one exchange after the other, each waited for.
struct ServiceClient: Sendable {
    private let connection: ConnectionString
    private let ca: String?

    /// As connection strings name it: with a port when that is not 443.
    var host: HostPort { connection.host }

    /// - Parameters:
    ///   - text: a service's connection string.
    ///   - ca: file with the root that the hub's certificate chains to; nil: the system's store.
    init(connectionString text: String, ca: String?) throws(Failure) {
        do { connection = try ConnectionString(parsing: text) } catch {
            throw .config("the connection string: \(error)", "iotstream policy connection-string NAME prints a good one")
        }
        guard connection.client == nil, connection.policy != nil else {
            throw .config("the connection string is a device's", "administration needs a policy's: iotstream policy connection-string NAME")
        }
        self.ca = ca
    }

    func get(_ segments: [String], query: [(String, String)] = []) throws(Failure) -> JSONValue {
        try send("GET", segments, nil, query: query)
    }

    /// One exchange; a status that is no success becomes a failure.
    ///
    /// - Parameters:
    ///   - segments: of the path, not encoded.
    ///   - ifMatch: an etag without quotes, or `*`.
    ///   - alsoAccepting: statuses besides 2xx whose body is a result.
    func send(
        _ method: String, _ segments: [String], _ body: JSONValue?, ifMatch: String? = nil, query: [(String, String)] = [],
        alsoAccepting: [Int] = []
    ) throws(Failure) -> JSONValue {
        throw .unreachable("\(connection.host): administration over REST is not there yet", "use --state on the hub's machine")
    }
}
